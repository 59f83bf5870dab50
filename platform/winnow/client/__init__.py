"""A client for applications that search a served retriever. Needs httpx; neither torch, ray nor numpy.

>>> with WinnowClient("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     client.search(["how do I find out when a file was last changed?"], k=3)
"""

from winnow.client.clients import KEY_VARIABLE, AsyncWinnowClient, WinnowClient
from winnow.client.results import Answer, Citation, Hits, ServiceError, Swap, Vectors, Versioned

__all__ = [
    "KEY_VARIABLE",
    "Answer",
    "AsyncWinnowClient",
    "Citation",
    "Hits",
    "ServiceError",
    "Swap",
    "Vectors",
    "Versioned",
    "WinnowClient",
]
