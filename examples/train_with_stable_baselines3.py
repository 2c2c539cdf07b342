"""Train stable-baselines3's PPO on a market whose best policy is known.

pip install stable-baselines3, then: python examples/train_with_stable_baselines3.py
"""

from stable_baselines3 import PPO

from envs.gym_market import MarketVectorEnv
from pipelines.benchmarks.gym_ids import known_market
from pipelines.benchmarks.sb3_env import MarketVecEnv

STEPS, LANES = 32, 16


def main(frames: int = 16_384) -> float:
    """Train for some frames on a drifting market; the mean return of the last episodes."""
    table, cfg = known_market("drift")
    lanes = MarketVecEnv(MarketVectorEnv(table, cfg, num_envs=LANES))
    learner = PPO(
        "MultiInputPolicy",
        lanes,
        n_steps=STEPS,
        batch_size=128,
        n_epochs=4,
        learning_rate=1e-3,
        gamma=0.98,
        seed=0,
    )
    learner.learn(frames)
    returns = [episode["r"] for episode in learner.ep_info_buffer or []]
    mean = sum(returns) / len(returns)
    print(f"mean return of the last {len(returns)} episodes: {mean:+.2f} (100 x log growth)")
    return mean


if __name__ == "__main__":
    main()
