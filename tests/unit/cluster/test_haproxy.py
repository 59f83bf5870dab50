"""No listener of HAProxy is left on all interfaces."""

from pathlib import Path

import pytest

from winnow.cluster.haproxy import answering_in_json, on_loopback

CONFIGURATION = """
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
  stats enable
"""


def test_every_listener_is_on_loopback():
    binds = [line.strip() for line in on_loopback(CONFIGURATION).splitlines() if "bind" in line]

    assert binds == ["bind 127.0.0.1:9101", "bind 127.0.0.1:8000", "bind 127.0.0.1:8404"]


def test_the_endpoint_itself_listens_where_it_was_asked_to():
    everywhere = CONFIGURATION.replace("bind 127.0.0.1:8000", "bind *:8000")

    binds = [line.strip() for line in on_loopback(everywhere).splitlines() if "bind" in line]

    assert binds == ["bind 127.0.0.1:9101", "bind *:8000", "bind 127.0.0.1:8404"]


def test_a_request_that_reaches_no_replica_is_answered_from_our_file():
    lines = "defaults\n    errorfile 502 /tmp/ray/500.http\n    errorfile 503 /tmp/ray/500.http\n    errorfile 400 /x\n"

    mended = answering_in_json(lines, Path("/run/503.http")).splitlines()

    assert [line.strip() for line in mended[1:]] == [
        "errorfile 502 /run/503.http",
        "errorfile 503 /run/503.http",
        "errorfile 400 /x",
    ]


def test_ray_still_writes_the_listener_that_is_mended():
    """If Ray changes its template, the wrapper has to be looked at again."""
    templates = pytest.importorskip("ray.serve._private.haproxy_templates")

    assert "bind *:{{ config.stats_port }}" in templates.HAPROXY_CONFIG_TEMPLATE
    assert "\nfrontend http_frontend\n" in templates.HAPROXY_CONFIG_TEMPLATE
