"""Seeds: equal parts give equal seeds, and nothing else does."""

from winnow.seeding import derive_seed


def test_a_seed_is_the_same_on_every_machine():
    assert derive_seed(13, "epoch", 2, "q7") == 3739898321082127534


def test_parts_do_not_run_into_each_other():
    assert derive_seed(13, "ab", "c") != derive_seed(13, "a", "bc")
    assert derive_seed(1, "3") != derive_seed(13)
