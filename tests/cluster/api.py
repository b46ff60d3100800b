"""Kubernetes' API by its own paths, for what is asked often; kubectl is for what people do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

_PATCH = {"Content-Type": "application/merge-patch+json"}
_GONE_OR_CHANGED = (404, 409)


class Api:
    """One thread's connection, as one user."""

    def __init__(self, url: str, ca: Path, token: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # neither the machine's proxy nor its authorities
        self._session.verify = str(ca)
        self._session.headers["Authorization"] = f"Bearer {token}"

    def is_ready(self) -> bool:
        try:
            return self._session.get(f"{self._url}/readyz", timeout=10).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """What a path answers; that an object has gone or changed is no failure."""
        headers = _PATCH if method == "PATCH" else {}
        url = f"{self._url}/{path}"
        answer = self._session.request(method, url, json=content, headers=headers, timeout=30)
        if answer.status_code not in _GONE_OR_CHANGED:
            answer.raise_for_status()
        return answer.json()

    def close(self) -> None:
        self._session.close()
