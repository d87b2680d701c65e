"""How long some things take that are worked off at once, judging by the last ones."""

FORGETTING = 0.95
"""What is left of what was seen when one more is seen."""


class BatchTimes:
    """A line through the last batches' times, as some things together take less than each alone.

        t(n) = t̄ + b · (n − n̄)        b = cov(n, t) / var(n), within [0, t̄ / n̄]

    A batch takes no less than a smaller one, and no longer than its things one by one. Where all
    were of one size, nothing tells how much less that is: then it counts as nothing.

    The very first is not counted. Whatever a process does for the first time in it takes many times
    as long as it ever will again, and who came next would be refused for that.
    """

    def __init__(self) -> None:
        self._is_first, self._num_seen = True, 0
        self._mean_num, self._mean_s = 0.0, 0.0
        self._var_num, self._cov_s = 0.0, 0.0

    def see(self, num: int, took_s: float) -> None:
        """One more batch, of so many things."""
        if self._is_first:
            self._is_first = False
            return
        self._num_seen += 1
        # Of the first ones each counts alike, else the very first would for long.
        share = max(1 - FORGETTING, 1 / self._num_seen)
        more, later_s = num - self._mean_num, took_s - self._mean_s
        self._mean_num += share * more
        self._mean_s += share * later_s
        self._var_num = (1 - share) * (self._var_num + share * more * more)
        self._cov_s = (1 - share) * (self._cov_s + share * more * later_s)

    def expected_s(self, num: int) -> float:
        """Seconds that a batch of so many things would take; 0 until one was counted."""
        if self._num_seen == 0 or num == 0:
            return 0.0
        most_s = self._mean_s / self._mean_num
        each_s = min(self._cov_s / self._var_num, most_s) if self._var_num > 1e-9 else most_s
        return self._mean_s + max(each_s, 0.0) * (num - self._mean_num)
