"""Guess the parts of a stack's layers: by words where names tell, by shapes against the residual width."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from registry.guessing.ffn import Block, guess_block
from registry.guessing.model import Factors, LayerGuess, Oriented, Split
from registry.guessing.norms import guess_norms
from registry.guessing.stacks import Found, Tensor
from registry.guessing.words import Role, Word, read
from registry.projection import EXPERT_PARTS, SHARED, Projection

READERS = (Role.Q, Role.K, Role.V, Role.QKV, Role.KV, Role.GATE, Role.UP, Role.GATE_UP, Role.UP_GATE)
WRITERS = (Role.O, Role.DOWN)
ATTENTION = (Projection.Q, Projection.K, Projection.V, Projection.O)


def guess_layer(found: Found, widths: Collection[int] = ()) -> LayerGuess:
    """The parts of a stack; `widths` are those that the config gives residual streams."""
    matrices = [one for one in found.tensors.values() if len(one.shape) == 2]
    sides = {width: sum(width in one.shape for one in matrices) for width in widths}
    likely = max(sides, key=lambda width: sides[width], default=None)
    if likely is None or sides[likely] * 2 < len(matrices):
        likely = likely_hidden(found.tensors.values())
    return _Guesser(found, likely).guess()


def likely_hidden(tensors: Iterable[Tensor]) -> int | None:
    """The width that most matrices have on one side, and most norms."""
    votes: Counter[int] = Counter()
    for tensor in tensors:
        if len(tensor.shape) == 2:
            votes.update(dict.fromkeys(tensor.shape, 4))
        elif len(tensor.shape) == 1 and "norm" in tensor.name.lower():
            votes[tensor.shape[0]] += 1
    return max(votes, key=lambda width: (votes[width], -width), default=None)


class _Guesser:
    def __init__(self, found: Found, hidden: int | None) -> None:
        self._all = found.tensors
        self._words = {name: read(name) for name in found.tensors}
        self._left = {name: one for name, one in found.tensors.items() if len(one.shape) >= 2}
        self._found = LayerGuess(hidden)

    def guess(self) -> LayerGuess:
        """All parts, the surest first."""
        found = self._found
        self._orientation()
        self._masks()
        self._low_rank()
        self._attention()
        self._feed_forward()
        found.norms = guess_norms(self._all, found.hidden)
        found.unplaced = [(one.name, one.shape, self._hint(one)) for one in self._left.values()]
        return found

    def _take(self, tensor: Tensor) -> Tensor:
        return self._left.pop(tensor.name)

    def _of(self, *roles: Role, context: str | None = "any") -> list[Tensor]:
        """Matrices not placed yet of these roles."""
        return [
            one
            for name, one in self._left.items()
            if len(one.shape) == 2
            and self._words[name].role in roles
            and (context == "any" or self._words[name].context == context)
        ]

    def _orientation(self) -> None:
        votes = self._votes(READERS, (*WRITERS, Role.OUT)) or self._votes((Role.IN,), ())
        if votes["in_out"] > votes["out_in"]:
            self._found.stored = "in_out"
        if len(votes) != 1:
            told = "shapes do not tell" if not votes else "shapes contradict each other on"
            self._found.checks["stored"] = f'{told} whether tensors are [out, in] or [in, out] ("in_out")'

    def _votes(self, readers: Collection[Role], writers: Collection[Role]) -> "Counter[Oriented]":
        """By which of a matrix's sides is the residual stream's; of numbered ones the second writes."""
        hidden, votes = self._found.hidden, Counter[Oriented]()
        for tensor in self._of(*readers, *writers, Role.NUMBERED):
            word = self._words[tensor.name]
            reads = word.role in readers
            if word.role is Role.NUMBERED:
                if Role.IN not in readers or word.number > 2:
                    continue
                reads = word.number != 2
            first, second = tensor.shape
            if (first == hidden) != (second == hidden):
                votes["out_in" if (second == hidden) == reads else "in_out"] += 1
        return votes

    def _oriented(self, tensor: Tensor) -> tuple[int, int]:
        first, second = tensor.shape[-2:]
        return (first, second) if self._found.stored == "out_in" else (second, first)

    def _reads(self, tensor: Tensor) -> bool:
        return self._oriented(tensor)[1] == self._found.hidden

    def _writes(self, tensor: Tensor) -> bool:
        return self._oriented(tensor)[0] == self._found.hidden

    def _masks(self) -> None:
        """Constant arrays that are square in their last axes, and as thin as can be before."""
        for tensor in list(self._left.values()):
            *thin, rows, columns = tensor.shape
            if len(thin) == 2 and set(thin) == {1} and rows == columns:
                self._found.ignored.setdefault("causal mask", []).append(self._take(tensor).name)

    def _low_rank(self) -> None:
        pairs = (
            (Role.Q_DOWN, Role.Q_UP, (Projection.Q,)),
            (Role.KV_DOWN, Role.KV_UP, (Projection.K, Projection.V)),
        )
        for first, second, order in pairs:
            downs, ups = self._of(first), self._of(second)
            if len(downs) == len(ups) == 1 and ups[0].shape[1] <= downs[0].shape[0]:
                rank = ups[0].shape[1]
                start = downs[0].name.partition("_proj")[0]
                gain = next(
                    (n for n, t in self._all.items() if n.startswith(start) and t.shape == (rank,)), None
                )
                self._found.low_rank.append(
                    Factors(self._take(downs[0]).name, self._take(ups[0]).name, order, gain)
                )

    def _attention(self) -> None:
        """Q, K, V and O by their words; then the fused ones, and what one gap leaves to a single tensor."""
        for projection in ATTENTION:
            facing = self._writes if projection is Projection.O else self._reads
            for tensor in self._of(Role(projection.value)):
                told = "" if facing(tensor) else f"{list(tensor.shape)} does not face the residual stream"
                self._place(projection, tensor, told)
        for tensor in self._of(Role.QKV):
            self._fuse(tensor, (Projection.Q, Projection.K, Projection.V))
        for tensor in self._of(Role.KV):
            self._fuse(tensor, (Projection.K, Projection.V))
        if Projection.O not in self._found.projections:
            for tensor in self._of(Role.OUT):
                if (
                    self._words[tensor.name].context != "ffn"
                    and self._beside_attention(tensor)
                    and self._writes(tensor)
                ):
                    self._place(Projection.O, tensor)
        missing = [one for one in ATTENTION if one not in self._held()]
        if len(missing) == 1 and len(self._found.projections) >= 3:
            self._complete(missing[0])

    def _complete(self, projection: Projection) -> None:
        facing = self._writes if projection is Projection.O else self._reads
        rest = [
            one
            for one in self._left.values()
            if len(one.shape) == 2
            and self._words[one.name] == Word(None, self._words[one.name].context)
            and self._words[one.name].context in (None, "attention")
            and facing(one)
            and self._beside_attention(one)
        ]
        if len(rest) == 1:
            self._place(projection, rest[0], f"its shape is all that speaks for {projection}")

    def _beside_attention(self, tensor: Tensor) -> bool:
        """Whether its path begins as Q's, K's or V's does."""
        held = [name for part in ATTENTION[:3] for name in self._found.projections.get(part, ())]
        held += [one.tensor for one in self._found.fused] + [one.up for one in self._found.low_rank]
        return any(_head(name) == _head(tensor.name) for name in held)

    def _held(self) -> set[Projection]:
        found = self._found
        orders = [one.order for one in found.fused] + [one.order for one in found.low_rank]
        return {*found.projections, *(part for order in orders for part in order)}

    def _place(self, projection: Projection, tensor: Tensor, check: str = "") -> None:
        """Unless a layer has two that claim it, where the first stays."""
        if not self._layers_with(projection) & tensor.layers:
            self._found.place(projection, self._take(tensor), check)

    def _layers_with(self, projection: Projection) -> set[int]:
        """The layers of which a projection is placed already."""
        found = self._found
        names = list(found.projections.get(projection, ()))
        names += [one.tensor for one in found.fused if projection in one.order]
        names += [one.up for one in found.low_rank if projection in one.order]
        return {layer for name in names for layer in self._all[name].layers}

    def _fuse(self, tensor: Tensor, order: tuple[Projection, ...]) -> None:
        if any(self._layers_with(part) & tensor.layers for part in order):
            return
        told = ", ".join(order)
        layouts = "blocks one below the other, or head by head"
        check = f'the order {told}, and whether they are {layouts} (repeat = "heads" or "kv_heads")'
        rows = self._oriented(tensor)[0]
        self._found.fused.append(Split(self._take(tensor).name, order, check, rows))

    def _feed_forward(self) -> None:
        """The routed experts, the shared ones, and the dense block."""
        in_ffn = [one for one in self._left.values() if self._may_be_ffn(one)]
        routed = [one for one in in_ffn if one.experts or len(one.shape) == 3]
        shared = [one for one in in_ffn if one not in routed and "shared" in one.name.lower()]
        dense = [one for one in in_ffn if one not in routed and one not in shared]
        block = guess_block(dense, self._words, self._oriented, self._found.hidden)
        beside = any(one.layers & block.layers for one in routed)
        self._routed(routed)
        self._block(shared, SHARED)
        self._block(dense, SHARED if beside and not shared else EXPERT_PARTS)
        self._routers(
            {*(len(one.experts) for one in routed), *(one.shape[0] for one in routed if len(one.shape) == 3)}
        )

    def _may_be_ffn(self, tensor: Tensor) -> bool:
        word = self._words[tensor.name]
        if len(tensor.shape) == 3:
            return word.context == "ffn"
        known = word.role not in (None, Role.Q, Role.K, Role.V, Role.O, Role.QKV, Role.KV)
        fits = word.context == "ffn" or (word.context is None and known)
        return len(tensor.shape) == 2 and fits and not self._is_flat(tensor)

    def _is_flat(self, tensor: Tensor) -> bool:
        """Whether it seems to hold many experts in two axes."""
        path = tensor.name.lower()
        return len(tensor.shape) == 2 and "experts." in path and "shared" not in path and not tensor.experts

    def _block(self, tensors: Sequence[Tensor], parts: Sequence[Projection]) -> None:
        for block in self._blocks(tensors):
            gate, up, down = parts
            for projection, tensor in ((gate, block.gate), (up, block.up), (down, block.down)):
                if tensor is not None:
                    self._place(projection, tensor, block.check if tensor is block.doubtful else "")
            if block.fused is not None:
                order = (up, gate) if block.up_first else (gate, up)
                self._found.fused.append(Split(self._take(block.fused).name, order, block.check))

    def _blocks(self, tensors: Sequence[Tensor]) -> Iterator[Block]:
        """One block; a second where layers of another kind have one of their own."""
        rest = list(tensors)
        while (block := guess_block(rest, self._words, self._oriented, self._found.hidden)).members:
            yield block
            rest = [one for one in rest if one not in block.members and not one.layers & block.layers]

    def _routed(self, tensors: Sequence[Tensor]) -> None:
        plain = [one for one in tensors if one.experts]
        block = guess_block(plain, self._words, self._oriented, self._found.hidden)
        for projection, tensor in zip(EXPERT_PARTS, (block.gate, block.up, block.down), strict=True):
            if tensor is not None:
                self._found.experts[projection] = self._take(tensor).name
                if block.check and tensor is block.doubtful:
                    self._found.checks[f"experts.{projection}"] = block.check
        packed = [one for one in tensors if one not in plain]
        narrow = min((self._inside(one) for one in packed), default=0)
        for tensor in packed:
            self._pack(tensor, self._inside(tensor) == 2 * narrow)

    def _inside(self, tensor: Tensor) -> int:
        """How wide an expert is, twice that where the tensor holds its Gate and Up."""
        rows, columns = tensor.shape[1:]
        return columns if rows == self._found.hidden else rows

    def _pack(self, tensor: Tensor, twice: bool) -> None:
        """All experts in one tensor; the side as long as the residual stream tells the orientation."""
        word, (rows, columns), hidden = self._words[tensor.name], tensor.shape[1:], self._found.hidden
        gate, up, down = EXPERT_PARTS
        role = word.role
        if role is Role.NUMBERED:
            role = Role.OUT if word.number == 2 else Role.IN
        orders = {
            Role.GATE_UP: (gate, up), Role.IN: (gate, up) if twice else (up,), Role.UP_GATE: (up, gate),
            Role.GATE: (gate,), Role.UP: (up,), Role.DOWN: (down,), Role.OUT: (down,),
        }  # fmt: skip
        if role not in orders or hidden not in (rows, columns):
            return
        order = orders[role]
        out_in = (rows if order == (down,) else columns) == hidden
        check = "whether each expert is [out, in], which its shape does not tell" if rows == columns else ""
        if len(order) > 1:
            check = f"the order {', '.join(order)}, and whether they are halves or alternate row by row"
            check += ' (repeat = "rows")'
        stored: Oriented = "out_in" if out_in else "in_out"
        self._found.packed.append(
            Split(
                self._take(tensor).name, order, check, stored=None if stored == self._found.stored else stored
            )
        )

    def _routers(self, counts: set[int]) -> None:
        """What has a row for each expert, or one row."""
        for tensor in list(self._left.values()):
            word = self._words[tensor.name]
            named = word.role is Role.GATE or "router" in tensor.name.lower() or "gate" in tensor.name.lower()
            fits = (
                len(tensor.shape) == 2 and self._reads(tensor) and self._oriented(tensor)[0] in counts | {1}
            )
            if fits and named and word.context != "attention":
                self._found.ignored.setdefault("routers", []).append(self._take(tensor).name)

    def _hint(self, tensor: Tensor) -> str:
        word = self._words[tensor.name]
        if word.context == "cross":
            return "cross-attention: a stack of its own, with cross = true"
        if self._is_flat(tensor):
            return "all experts in two axes: [[experts.packed]] with flat = true"
        return ""


def _head(name: str) -> str:
    """The first part of a path; empty where there is one only."""
    path = name.removesuffix(".weight").replace("/", ".").split(".")
    return path[0] if len(path) > 1 else ""
