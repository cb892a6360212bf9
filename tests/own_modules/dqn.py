"""Reinforcement learning: a deep Q-network that learns from a replay buffer, as in Lightning's tutorial."""

from collections import OrderedDict, deque, namedtuple
from collections.abc import Iterator

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import DataLoader
from torch.utils.data.dataset import IterableDataset


class Chain:
    """Walk right to the goal."""

    def __init__(self, n=8):
        self.n = n

    def reset(self):
        self.s, self.t = 0, 0
        return self._obs()

    def _obs(self):
        o = np.zeros(self.n, dtype=np.float32)
        o[self.s] = 1
        return o

    def step(self, a):
        self.t += 1
        if np.random.random() < 0.1:
            a = 1 - a
        self.s = min(max(self.s + (1 if a else -1), 0), self.n - 1)
        done = self.s == self.n - 1 or self.t >= 50
        return self._obs(), float(self.s == self.n - 1) - 0.01, done


class DQN(nn.Module):
    def __init__(self, obs_size: int, n_actions: int, hidden_size: int = 32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(obs_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, n_actions)
        )

    def forward(self, x):
        return self.net(x.float())


Experience = namedtuple("Experience", field_names=["state", "action", "reward", "done", "new_state"])


class ReplayBuffer:
    def __init__(self, capacity: int) -> None:
        self.buffer = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self.buffer)

    def append(self, experience: Experience) -> None:
        self.buffer.append(experience)

    def sample(self, batch_size: int) -> tuple:
        indices = np.random.choice(len(self.buffer), batch_size, replace=False)
        states, actions, rewards, dones, next_states = zip(
            *(self.buffer[idx] for idx in indices), strict=True
        )
        return (
            np.array(states),
            np.array(actions),
            np.array(rewards, dtype=np.float32),
            np.array(dones, dtype=bool),
            np.array(next_states),
        )


class RLDataset(IterableDataset):
    def __init__(self, buffer: ReplayBuffer, sample_size: int = 200) -> None:
        self.buffer = buffer
        self.sample_size = sample_size

    def __iter__(self) -> Iterator[tuple]:
        states, actions, rewards, dones, new_states = self.buffer.sample(self.sample_size)
        for i in range(len(dones)):
            yield states[i], actions[i], rewards[i], dones[i], new_states[i]


class Agent:
    def __init__(self, env, replay_buffer: ReplayBuffer) -> None:
        self.env = env
        self.replay_buffer = replay_buffer
        self.reset()

    def reset(self) -> None:
        self.state = self.env.reset()

    def get_action(self, net: nn.Module, epsilon: float, device: str) -> int:
        if np.random.random() < epsilon:
            return int(np.random.randint(2))
        state = torch.tensor(np.array([self.state]))
        _, action = torch.max(net(state), dim=1)
        return int(action.item())

    @torch.no_grad()
    def play_step(self, net: nn.Module, epsilon: float = 0.0, device: str = "cpu") -> tuple[float, bool]:
        action = self.get_action(net, epsilon, device)
        new_state, reward, done = self.env.step(action)
        self.replay_buffer.append(Experience(self.state, action, reward, done, new_state))
        self.state = new_state
        if done:
            self.reset()
        return reward, done


class DQNLightning(LightningModule):
    def __init__(
        self,
        batch_size: int = 16,
        lr: float = 1e-2,
        gamma: float = 0.99,
        sync_rate: int = 10,
        replay_size: int = 1000,
        eps_last_frame: int = 500,
        eps_start: float = 1.0,
        eps_end: float = 0.01,
        episode_length: int = 200,
        warm_start_steps: int = 300,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.env = Chain()
        self.net, self.target_net = DQN(8, 2), DQN(8, 2)
        self.buffer = ReplayBuffer(self.hparams.replay_size)
        self.agent = Agent(self.env, self.buffer)
        self.total_reward = 0
        self.episode_reward = 0
        self.populate(self.hparams.warm_start_steps)

    def populate(self, steps: int = 1000) -> None:
        for _ in range(steps):
            self.agent.play_step(self.net, epsilon=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def dqn_mse_loss(self, batch):
        states, actions, rewards, dones, next_states = batch
        q = self.net(states).gather(1, actions.long().unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            nxt = self.target_net(next_states).max(1)[0]
            nxt[dones] = 0.0
        return nn.MSELoss()(q, nxt * self.hparams.gamma + rewards)

    def get_epsilon(self, start: float, end: float, frames: int) -> float:
        return end if self.global_step > frames else start - (self.global_step / frames) * (start - end)

    def training_step(self, batch, nb_batch) -> OrderedDict:
        epsilon = self.get_epsilon(self.hparams.eps_start, self.hparams.eps_end, self.hparams.eps_last_frame)
        reward, done = self.agent.play_step(self.net, epsilon, self.device)
        self.episode_reward += reward
        loss = self.dqn_mse_loss(batch)
        if done:
            self.total_reward = self.episode_reward
            self.episode_reward = 0
        if self.global_step % self.hparams.sync_rate == 0:
            self.target_net.load_state_dict(self.net.state_dict())
        self.log_dict({"reward": reward, "train_loss": loss, "epsilon": epsilon})
        self.log("total_reward", float(self.total_reward), prog_bar=True)
        return loss

    def configure_optimizers(self) -> list[Optimizer]:
        return [Adam(self.net.parameters(), lr=self.hparams.lr)]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            dataset=RLDataset(self.buffer, self.hparams.episode_length), batch_size=self.hparams.batch_size
        )
