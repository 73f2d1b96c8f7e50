"""A language model whose blocks lie in parts on the workers of a training (FSDP2, `torch.distributed.fsdp`).

Embeddings and the last norm stay whole: the answer's logit reads two rows of them outside the forward pass. A block is
put together when it is read, and dropped again behind it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from corella.config import LLMConfig
from corella.errors import UserError
from corella.llm.backbone import Backbone, load_backbone, make_trainable, trainable, transformer_blocks
from corella.workers import here

# Nothing of torch.distributed.tensor is imported where nothing is sharded: that takes seconds.


def shard(backbone: Backbone) -> None:
    """Leave this worker its part of every block. Each worker has loaded all of them. Raises `UserError` where torch is
    too old."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise UserError(f"joint.shard needs a later torch than {torch.__version__}: pip install -U torch")
    device = backbone.model.device.type
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for block in transformer_blocks(backbone)[1]:
        held = fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        # A worker's loss is its share already, so gradients are summed and not averaged.
        held.set_gradient_divide_factor(1.0)
        held.set_force_sum_reduction_for_comms(True)


def sharded(parameter: Tensor) -> bool:
    """Whether this worker holds only a part of it."""
    return hasattr(parameter, "to_local")


def local(tensor: Tensor) -> Tensor:
    """The part that lies here; all of it where it is not sharded."""
    found: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found


def whole(like: Any, tensor: Tensor) -> Tensor:
    """All of a tensor that is sharded as `like` is, from every worker's part; all workers call it."""
    if not sharded(like) or tensor.shape != local(like).shape:
        return tensor
    from torch.distributed.tensor import DTensor

    placed = DTensor.from_local(
        tensor.detach(), like.device_mesh, like.placements, shape=like.shape, stride=like.stride(), run_check=False
    )
    found: Tensor = placed.full_tensor()
    return found


def part(like: Any, tensor: Tensor) -> Tensor:
    """This worker's part of a whole tensor, as `like` is sharded."""
    if not sharded(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    found: Tensor = distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None).to_local()
    return found


def gathered(backbone: Backbone, config: LLMConfig, seed: int) -> Backbone:
    """A sharded backbone of `make_trainable` in one piece again, on the first worker; the others keep their parts. All
    workers call it. One that is not sharded is returned as it is."""
    weights = trainable(backbone)
    if not any(sharded(p) for p in weights.values()):
        return backbone
    full = {name: whole(p, local(p)).detach().cpu() for name, p in weights.items()}
    if not here().first:
        return backbone
    fresh = make_trainable(load_backbone(config), config, seed)
    with torch.no_grad():
        for name, parameter in trainable(fresh).items():
            parameter.copy_(full[name])
    return fresh


def clip(parameters: Sequence[Tensor], shards: Sequence[Tensor], limit: float) -> None:
    """Scale gradients down to a norm of `limit` at most. `shards`: those of the parameters of which every worker holds
    another part."""
    if not shards:
        nn.utils.clip_grad_norm_(parameters, limit)
        return
    held = {id(p) for p in shards}
    norms = [
        nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None and (id(p) in held) is inside])
        for inside in (True, False)
    ]
    squared = norms[0].square()
    distributed.all_reduce(squared)
    nn.utils.clip_grads_with_norm_(parameters, limit, (squared + norms[1].square()).sqrt())
