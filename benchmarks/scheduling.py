"""A simulation of a large study on nodes that fail: python -m benchmarks.scheduling [--cells 10000].

Each cell trains for a random time (log-normal) on a core. A node runs a cell on each of its cores and fails
after an exponential time; it comes back later. Its cells go to the end of the queue and go on from their last
checkpoint, as those of a study on a Ray cluster do. Nothing is trained. Printed are the time until the last
cell ends beside the least possible, and how much work was done twice.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from jsonargparse import auto_cli

END, FAILURE, RETURN = range(3)


@dataclass
class Simulation:
    """The queue of cells, the nodes and the clock.

    Args:
        remaining: seconds that each cell has left from its last checkpoint.
        nodes: their number.
        cores: of a node.
        between_failures: the mean seconds until a node fails.
        away: seconds until a failed node is back.
        checkpoint: seconds between two checkpoints.
        start: seconds that a cell takes beyond its training, each time it is started.
        chance: of the failures.
    """

    remaining: list[float]
    nodes: int
    cores: int
    between_failures: float
    away: float
    checkpoint: float
    start: float
    chance: random.Random
    now: float = 0.0
    repeated: float = 0.0  # seconds of training since the last checkpoint of cells whose node failed
    failures: int = 0
    events: list[tuple[float, int, int, int]] = field(default_factory=list)  # time, kind, node, turn or cell

    def run(self) -> float:
        """Train all cells; the seconds until the last one ends."""
        self.queue = deque(range(len(self.remaining)))
        self.running: list[dict[int, float]] = [{} for _ in range(self.nodes)]  # start by cell
        self.turn = [0] * self.nodes  # how often a node has failed
        ended = 0
        for node in range(self.nodes):
            self._join(node)
        while ended < len(self.remaining):
            self.now, kind, node, which = heapq.heappop(self.events)
            if kind == RETURN:
                self._join(node)
            elif kind == FAILURE:
                self._fail(node)
            elif self._ends(node, which):
                del self.running[node][which]
                ended += 1
                self._fill(node)
        return self.now

    def _ends(self, node: int, cell: int) -> bool:
        """Whether the event is that of a cell that still runs, not of one whose node failed."""
        begun = self.running[node].get(cell)
        return begun is not None and abs(begun + self.start + self.remaining[cell] - self.now) < 1e-6

    def _join(self, node: int) -> None:
        failure = self.now + self.chance.expovariate(1 / self.between_failures)
        heapq.heappush(self.events, (failure, FAILURE, node, 0))
        self._fill(node)

    def _fill(self, node: int) -> None:
        while self.queue and len(self.running[node]) < self.cores:
            cell = self.queue.popleft()
            self.running[node][cell] = self.now
            end = self.now + self.start + self.remaining[cell]
            heapq.heappush(self.events, (end, END, node, cell))

    def _fail(self, node: int) -> None:
        self.failures += 1
        for cell, begun in self.running[node].items():
            trained = max(self.now - begun - self.start, 0.0)
            kept = trained // self.checkpoint * self.checkpoint
            self.remaining[cell] -= kept
            self.repeated += trained - kept
            self.queue.append(cell)
        self.running[node] = {}
        heapq.heappush(self.events, (self.now + self.away, RETURN, node, 0))


def simulate(
    cells: int = 10_000,
    nodes: int = 100,
    cores: int = 8,
    minutes: float = 10.0,
    hours_between_failures: float = 24.0,
    minutes_away: float = 10.0,
    checkpoint_seconds: float = 60.0,
    start_seconds: float = 5.0,
    seed: int = 1,
) -> None:
    """Print the time of the study, the least possible time, failures and repeated work.

    Args:
        cells: of the study.
        nodes: of the cluster.
        cores: of a node; a cell takes one.
        minutes: the median time of a training; one in six takes 1.6 times as long, or longer.
        hours_between_failures: the mean time until a node fails.
        minutes_away: until a failed node is back.
        checkpoint_seconds: the time between two checkpoints.
        start_seconds: what a cell takes beyond its training, each time it starts.
        seed: of times and failures.
    """
    chance = random.Random(seed)  # noqa: S311
    trainings = [60 * minutes * chance.lognormvariate(0, 0.5) for _ in range(cells)]
    least = max(sum(trainings) / (nodes * cores), max(trainings))
    simulation = Simulation(
        trainings.copy(),
        nodes,
        cores,
        3600 * hours_between_failures,
        60 * minutes_away,
        checkpoint_seconds,
        start_seconds,
        chance,
    )
    whole = simulation.run()
    print(f"{cells:,} cells on {nodes} nodes of {cores} cores: {whole / 3600:.2f} h")
    print(f"without starts and failures at least {least / 3600:.2f} h; {whole / least:.2f} times that")
    share = simulation.repeated / sum(trainings)
    print(f"{simulation.failures} failures of nodes; {share:.2%} of the training was repeated")


if __name__ == "__main__":
    auto_cli(simulate)
