"""The crash game in plain Python: the slow truth of tests, and a peer of the kernels.

Written from the documentation of `seedrandom` and of the game's law; it shares
nothing with `hftlib.sessions`.
"""

import math


class Arc4:
    """Numbers of `new Math.seedrandom(seed)`."""

    def __init__(self, seed: str) -> None:
        key = [0] * 256
        smear = 0
        for place, letter in enumerate(seed):
            smear ^= key[place & 255] * 19
            key[place & 255] = (smear + ord(letter)) & 255
        key = key[: max(1, len(seed))]
        self.box = list(range(256))
        self.i = self.j = 0
        j = 0
        for i in range(256):
            j = (j + key[i % len(key)] + self.box[i]) & 255
            self.box[i], self.box[j] = self.box[j], self.box[i]
        self.take(256)

    def take(self, count: int) -> list[int]:
        """The next bytes."""
        taken = []
        for _ in range(count):
            self.i = (self.i + 1) & 255
            self.j = (self.j + self.box[self.i]) & 255
            self.box[self.i], self.box[self.j] = self.box[self.j], self.box[self.i]
            taken.append(self.box[(self.box[self.i] + self.box[self.j]) & 255])
        return taken

    def draw(self) -> float:
        """The next number in [0, 1)."""
        numerator, power, low = int.from_bytes(self.take(6)), 48, 0
        while numerator < 2**52:
            numerator = (numerator + low) * 256
            power += 8
            (low,) = self.take(1)
        while numerator >= 2**53:  # a multiple of 256: nothing is lost
            numerator //= 2
            power -= 1
            low //= 2
        return math.ldexp(numerator + low, -power)


def play_slowly(server_seed: str, game_id: str, version: str = "v3") -> list[float]:
    """Prices of a game, the rug price last."""
    draw = Arc4(f"{server_seed}-{game_id}").draw
    prices = [1.0]
    for _ in range(5_000):
        if draw() < 0.005:
            break
        price = prices[-1]
        if version == "v3" and draw() < 0.00001 and price <= 100:
            prices.append(price * 10.0)
            continue
        if draw() < 0.125:
            size = 0.15 + 0.10 * draw()
            change = size if draw() > 0.5 else -size
        else:
            root = math.sqrt(price) if version == "v1" else min(10.0, math.sqrt(price))
            change = (-0.02 + 0.05 * draw()) + 0.005 * root * (2 * draw() - 1)
        prices.append(max(0.0, price * (1 + change)))
    prices.append((1 - 0.98) * min(prices))
    return prices
