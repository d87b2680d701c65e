"""The straightforward trainer: gathered histories, one softmax over a matrix of logits, autograd.

What a competent engineer writes in an afternoon with PyTorch: an `EmbeddingBag` averages the last
50 watches of each example, a tower makes the user vector, 2,000 uniform negatives are shared by the
batch and corrected by logQ, Adam updates everything. Times and recall are printed as JSON.

    python -m benchmarks.plain_pytorch TASK.npz
"""

import torch
from benchmarks.rivals.entry import Stopwatch, arguments, read_settings, report
from benchmarks.rivals.task import Moments, Settings, Task, quality, read_task
from torch import nn

LEARNING_RATE = 0.01
"""The best on validation of .001, .003 and .01, on a quarter of the users and in four epochs."""


class TwoTables(nn.Module):
    """Embeddings of past watches and a tower on one side, item vectors on the other."""

    def __init__(self, num_items: int, settings: Settings) -> None:
        super().__init__()
        size = settings.vector_size
        self.history = nn.EmbeddingBag(num_items + 1, size, mode="mean", padding_idx=0)
        self.items = nn.Embedding(num_items + 1, size, padding_idx=0)
        layers: list[nn.Module] = []
        width = size
        for hidden in settings.hidden_sizes:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.tower = nn.Sequential(*layers, nn.Linear(width, size))
        for table in (self.history, self.items):
            nn.init.normal_(table.weight, std=size**-0.5)
            with torch.no_grad():
                table.weight[0] = 0.0

    def user_vectors(self, history_rows: torch.Tensor) -> torch.Tensor:
        """[B, H] → [B, D]."""
        vectors: torch.Tensor = self.tower(self.history(history_rows))
        return vectors


def sampled_softmax(
    user_vectors: torch.Tensor, items: nn.Embedding, rows: torch.Tensor, num_negatives: int
) -> torch.Tensor:
    """Mean −log P(watched) among itself and S uniform negatives, s_j = u · v_j − log(S / N)."""
    num_items = items.num_embeddings - 1
    negative_rows = torch.randint(1, num_items + 1, (num_negatives,))
    log_q = torch.tensor(num_negatives / num_items).log()
    positive = (user_vectors * items(rows)).sum(dim=1, keepdim=True)
    negative = user_vectors @ items(negative_rows).T - log_q
    negative = negative.masked_fill(rows[:, None] == negative_rows, -torch.inf)
    logits = torch.cat([positive, negative], dim=1)
    return nn.functional.cross_entropy(logits, torch.zeros(len(rows), dtype=torch.int64))


def train_epoch(
    model: TwoTables, optimizer: torch.optim.Optimizer, examples: Moments, settings: Settings
) -> None:
    """One pass over the examples in random order."""
    history_rows = torch.from_numpy(examples.history_rows)
    target_rows = torch.from_numpy(examples.target_rows)
    for batch in torch.split(torch.randperm(len(examples)), settings.batch_size):
        user_vectors = model.user_vectors(history_rows[batch])
        rows = target_rows[batch].long()
        loss = sampled_softmax(user_vectors, model.items, rows, settings.num_negatives)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def train(task: Task, settings: Settings) -> None:
    """Trains, ranks and reports."""
    torch.manual_seed(settings.seed)
    torch.set_flush_denormal(True)
    model = TwoTables(task.num_items, settings)
    learning_rate = settings.learning_rate or LEARNING_RATE
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    examples, watch = task.training(settings.num_watches), Stopwatch()
    for _ in range(settings.num_epochs):
        watch.start()
        train_epoch(model, optimizer, examples, settings)
        watch.stop()
    asked = task.held_out(settings.part, settings.num_watches)
    with torch.inference_mode():
        user_vectors = model.user_vectors(torch.from_numpy(asked.history_rows)).numpy()
        item_vectors = model.items.weight.numpy()
    report(
        "plain_pytorch",
        settings,
        speed=watch.speed(len(examples)),
        training_s=watch.total_s,
        measured=quality(user_vectors, item_vectors, asked.target_rows),
        learning_rate=learning_rate,
        torch=torch.__version__,
    )


if __name__ == "__main__":
    given = arguments("plain_pytorch", Settings).parse_args()
    train(read_task(given.task), read_settings(given, Settings))
