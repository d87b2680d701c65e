import pytest

from upnext.training.logbook import Progress


@pytest.mark.parametrize(
    ("remaining_s", "left"), [(0.0, "0:00:00"), (3_725.4, "1:02:05"), (90_000.0, "1 day, 1:00:00")]
)
def test_progress_is_one_line(remaining_s: float, left: str) -> None:
    progress = Progress(
        stage="retrieval",
        epoch=0,
        step=1,
        loss=7.25,
        learning_rate=0.1,
        examples_per_s=1_234_567.8,
        done_share=0.006,
        remaining_s=remaining_s,
    )
    assert progress.to_text() == (
        f"retrieval epoch 0: 1% done, loss 7.2500, 1,234,568 examples/s, {left} left"
    )
