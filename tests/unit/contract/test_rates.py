"""Rate limits: how they are written, how requests are counted, and a Redis that is full."""

import pytest
import redis

from contract.errors import RateLimitedError
from contract.rates import RateLimits
from contract.settings import load_settings


@pytest.mark.parametrize(
    ("rate", "limit", "length_s"),
    [
        ("100 per minute", 100, 60),
        ("5/second", 5, 1),
        ("5 / 10 seconds", 5, 10),
        ("10 per 5 minutes", 10, 300),
        ("1000/hour", 1000, 3600),
        ("1/day", 1, 86_400),
    ],
)
def test_a_rate_is_a_number_of_requests_in_a_window(
    redis_client: "redis.Redis", rate: str, limit: int, length_s: int
) -> None:
    assert load_settings({"PAWQUEUE_RATE_LIMIT": rate}).rate_limit == rate
    window = RateLimits(redis_client, rate).count("ada")
    assert (window.limit, window.length_s, window.used, window.remaining) == (limit, length_s, 1, limit - 1)


def test_all_processes_count_together_and_each_counter_alone(redis_client: "redis.Redis") -> None:
    gateway, dashboard = RateLimits(redis_client, "9 per day"), RateLimits(redis_client, "1 per second")
    assert gateway.count("ada", "2 per hour").remaining == 1
    window = dashboard.count("ada", "2 per hour")
    window.check("The key has reached its limit.")
    assert (window.used, window.remaining) == (2, 0)
    assert 3500 < window.reset_s <= 3600
    with pytest.raises(RateLimitedError, match=r"The key has reached its limit\. Wait") as refused:
        gateway.count("ada", "2 per hour").check("The key has reached its limit.")
    assert 3500 < (refused.value.retry_after_s or 0) <= 3600
    assert gateway.count("bob", "2 per hour").used == 1


def test_a_window_ends(redis_client: "redis.Redis") -> None:
    rates = RateLimits(redis_client, "1 per minute")
    rates.count("ada")
    (counter,) = redis_client.keys()
    assert 0 < redis_client.ttl(counter) <= 60
    redis_client.delete(counter)  # as at the end of the window
    rates.count("ada").check("Too many requests.")


def test_requests_are_not_counted_while_redis_is_full(redis_client: "redis.Redis") -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        for _ in range(3):
            RateLimits(redis_client, "1 per day").count("ada").check("Too many requests.")
    finally:
        redis_client.config_set("maxmemory", 0)
