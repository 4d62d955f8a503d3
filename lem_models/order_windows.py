"""Which order windows each epoch draws, and which of them each process takes."""

from collections.abc import Iterable, Iterator

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lem_models.config import LEMConfig, TrainingConfig
from lem_models.orders import OrderBatch
from lem_models.ranks import rank, share, world_size
from lem_models.windows import MarketPanel, evenly_spread


class _Batches(IterableDataset[OrderBatch]):
    def __init__(self, panel: MarketPanel, batches: list[Tensor], config: LEMConfig) -> None:
        self.panel, self.batches, self.config = panel, batches, config

    def __iter__(self) -> Iterator[OrderBatch]:
        for rows in self.batches:
            yield self.panel.orders(rows, self.config.lookback, self.config.horizon, self.config.information_set)


class OrderWindows(lightning.LightningDataModule):
    """Draws training windows anew each epoch, in an order that depends on seed and epoch alone.

    Every process draws the same batches and takes its share of each: together they see what one process would.
    """

    def __init__(
        self,
        panel: MarketPanel,
        train_rows: Tensor,
        validation_rows: Tensor,
        model: LEMConfig,
        training: TrainingConfig,
    ) -> None:
        super().__init__()
        self.panel, self.model, self.training = panel, model, training
        self.train_rows, self.validation_rows = train_rows, validation_rows

    def train_dataloader(self) -> DataLoader[OrderBatch]:
        """One epoch of random windows."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return self._loader(drawn(self.train_rows, self.training, epoch))

    def val_dataloader(self) -> DataLoader[OrderBatch]:
        """The same windows each time."""
        rows = evenly_spread(self.validation_rows, self.training.validation_orders)
        batches = list(torch.split(rows, self.training.batch_size))
        if len(batches) > 1 and len(batches[-1]) < world_size():  # some process would have none of it
            batches[-2:] = [torch.cat(batches[-2:])]
        return self._loader(batches)

    def _loader(self, batches: Iterable[Tensor]) -> DataLoader[OrderBatch]:
        own = [share(rows, rank(), world_size()) for rows in batches]
        return DataLoader(_Batches(self.panel, own, self.model), batch_size=None)


def drawn(rows: Tensor, training: TrainingConfig, epoch: int) -> tuple[Tensor, ...]:
    """The batches of an epoch, before they are shared out: a resumed run draws what an undisturbed one would have."""
    generator = torch.Generator().manual_seed(training.seed * 1_000_003 + epoch)
    shape = (training.batches_per_epoch, training.batch_size)
    return rows[torch.randint(len(rows), shape, generator=generator)].unbind()
