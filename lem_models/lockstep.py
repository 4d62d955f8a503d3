"""Many orders under way as one batch: those that are as many bars old are decided in one pass.

Orders of one market that began with the same bar see the same window: it is read once, however many they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.execution import relative_price
from lem_models.fills import OpenOrder
from lem_models.order_record import OrderRecord
from lem_models.orders import MarketPath, OrderGrid


@dataclass
class Windows:
    """What orders see of their markets.

    Attributes:
        features: As ``OrderRecord.features``, one row for each window that differs; (W, L + H − 1, F).
        market: As ``OrderRecord.market``; W paths.
        of: The window of each order; (B,).
    """

    features: Tensor
    market: MarketPath
    of: Tensor

    @classmethod
    def of_records(cls, records: Sequence[OrderRecord], names: tuple[str, ...]) -> "Windows":
        """The windows of orders that are equally old, for the features named."""
        places: dict[tuple[object, ...], int] = {}
        shown: list[OrderRecord] = []
        of = []
        for record in records:
            seen = record.seen()
            if seen not in places:
                places[seen] = len(shown)
                shown.append(record)
            of.append(places[seen])
        paths = [vars(record.market()) for record in shown]
        market = MarketPath(**{name: torch.cat([path[name] for path in paths]) for name in paths[0]})
        return cls(torch.cat([record.features(names) for record in shown]), market, torch.tensor(of))

    @property
    def are_of_one_each(self) -> bool:
        """Whether every order has a window of its own."""
        return len(self.of) == len(self.market)


def open_orders(records: Sequence[OrderRecord], step: int, grid: OrderGrid) -> OpenOrder:
    """Orders before a bar, counted from 0, on every cell of the grid alike; an order's own is the one to read."""
    orders = OpenOrder.untouched(torch.empty(len(records), *grid.shape))
    if not step:
        return orders
    courses = [record.course(step) for record in records]
    price = torch.tensor([course.prices for course in courses], dtype=torch.float64)
    arrival = torch.tensor([[record.arrival()] for record in records], dtype=torch.float64)
    price = price.where(price > 0, arrival) / arrival
    ones = torch.ones_like(price, dtype=torch.float32)
    path = MarketPath(ones[:, 0], price.float(), ones, ones, ones, ones)
    relative = relative_price(path, grid)
    remaining = torch.tensor([course.remaining for course in courses], dtype=torch.float64)
    filled = (remaining[:, :-1] - remaining[:, 1:]).float()[:, None, None]
    for bar in range(step):
        orders = orders.after(filled[..., bar].expand_as(orders.remaining), relative[..., bar])
    return orders
