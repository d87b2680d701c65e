"""A console of a real server in processes of their own, in a real browser."""

import httpx
from tests.browser.whole import Whole


def test_server_and_console_answer_each_as_a_process_of_its_own(whole: Whole) -> None:
    ready = httpx.get(f"{whole.server_url}/readyz", trust_env=False).json()
    assert ready["labels"] == {"stable": 1}
    listed = httpx.get(f"{whole.managed_url}/admin/v1/releases", trust_env=False).json()
    assert [one["version"] for one in listed["releases"]] == [1, 2]
    assert "upnext" in httpx.get(whole.console_url, trust_env=False).text
