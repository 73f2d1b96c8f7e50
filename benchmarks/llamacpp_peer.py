"""llama.cpp on the work that `serving.py` times, in an environment of its own.

    CMAKE_ARGS=-DGGML_NATIVE=on pip install llama-cpp-python==0.3.36 gguf safetensors numpy    (compiles: minutes)
    python benchmarks/llamacpp_peer.py MODEL_FOLDER WORK

`MODEL_FOLDER`: a Llama model as `corella export` writes it. It is converted to GGUF at several precisions in WORK.
Then each line on standard input asks for something, and a line of JSON answers it:

- `{"prefix": [ids], "branches": [[ids], ...], "yes": id, "no": id, "threads": n}` sets the work;
- `{"open": {"precision": "Q8_0", "flash": true, "micro_batch": 512, "unified": true, "one_read": false}}` loads one;
- `{"score": "cold"}` (prefix and branches) or `{"score": "warm"}` (branches only) does the work: seconds, logits.

The prefix is read once; its cache is shared with one sequence per branch; all branches are read in one batch and only
their last tokens' logits are computed. `unified`: one cache for all sequences; `one_read`: where nothing is kept,
prefix and branches in one batch, the prefix's tokens belonging to all sequences.
"""

import ctypes
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as lib
import numpy as np
from safetensors import safe_open

PRECISIONS = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2}
Request = dict[str, Any]


def main() -> None:
    folder, work = (Path(word) for word in sys.argv[1:3])
    work.mkdir(parents=True, exist_ok=True)
    lib.llama_log_set(_complain, ctypes.c_void_p(0))
    lib.llama_backend_init()
    source = work / "F32.gguf"
    if not source.is_file():
        convert(folder, source)
    scorer: Scorer | None = None
    job: Request = {}
    for line in sys.stdin:
        asked = json.loads(line)
        answer: Request = {}
        if "branches" in asked:
            job = asked
        elif "open" in asked:
            if scorer is not None:
                scorer.close()
            scorer = Scorer(quantized(source, asked["open"]["precision"]), asked["open"], job)
        elif scorer is not None:
            answer = scorer.score(asked["score"] == "cold")
        print(json.dumps(answer), flush=True)


@lib.llama_log_callback
def _complain(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Pass on errors only."""
    if level == 4:
        print(text.decode(errors="replace"), file=sys.stderr, end="")


def convert(folder: Path, path: Path) -> None:
    """A Llama model of safetensors as GGUF in float32."""
    config = json.loads((folder / "config.json").read_text())
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    rope = config.get("rope_parameters") or {}
    writer.add_rope_freq_base(rope.get("rope_theta") or config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(0)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    by_id = {number: word for word, number in tokenizer["model"]["vocab"].items()}
    special = {added["id"]: added["content"] for added in tokenizer["added_tokens"]}
    words = [special.get(i, by_id.get(i, f"[unused {i}]")) for i in range(config["vocab_size"])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3 if i in special else 1 for i in range(len(words))])
    pairs = [" ".join(pair) if isinstance(pair, list) else pair for pair in tokenizer["model"]["merges"]]
    writer.add_token_merges(pairs)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 — not a dictionary
                value = tensors.get_tensor(name).float().numpy()
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    # llama.cpp rotates neighbouring pairs, transformers the two halves.
                    n = heads if "q_proj" in name else groups
                    value = value.reshape(n, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
                known = names.get_name(name, try_suffixes=(".weight",))
                writer.add_tensor(known, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def quantized(source: Path, precision: str) -> Path:
    """The same model at another precision, kept beside it."""
    path = source.with_name(f"{precision}.gguf")
    if not path.is_file():
        parameters = lib.llama_model_quantize_default_params()
        parameters.ftype, parameters.nthread = PRECISIONS[precision], 2
        partial = path.with_suffix(".partial")
        if lib.llama_model_quantize(str(source).encode(), str(partial).encode(), ctypes.byref(parameters)):
            raise SystemExit(f"cannot quantize to {precision}")
        partial.replace(path)
    return path


class Scorer:
    """One loaded model with a context that holds the whole work."""

    def __init__(self, path: Path, settings: Request, job: Request) -> None:
        self.job, self.one_read = job, settings["one_read"]
        total = len(job["prefix"]) + sum(map(len, job["branches"]))
        sequences = len(job["branches"]) + 1
        longest = len(job["prefix"]) + max(map(len, job["branches"]))
        cells = total if settings["unified"] else sequences * (-(-longest // 256) * 256)
        chosen = lib.llama_model_default_params()
        self.model = lib.llama_model_load_from_file(str(path).encode(), chosen)
        context = lib.llama_context_default_params()
        context.n_ctx = -(-(cells + 64) // 256) * 256
        context.n_batch = max(total, settings["micro_batch"])
        context.n_ubatch = settings["micro_batch"]
        context.n_seq_max = sequences
        context.n_threads = context.n_threads_batch = job["threads"]
        context.flash_attn_type = int(settings["flash"])
        context.kv_unified = settings["unified"]  # a sequence copied is then a mark on the cells, not a copy of them
        self.context = lib.llama_init_from_model(self.model, context)
        if not self.model or not self.context:
            raise SystemExit(f"llama.cpp cannot load {path} with {settings}")
        self.memory = lib.llama_get_memory(self.context)
        self.batch = lib.llama_batch_init(total, 0, sequences)

    def close(self) -> None:
        lib.llama_batch_free(self.batch)
        lib.llama_free(self.context)
        lib.llama_model_free(self.model)

    def score(self, cold: bool) -> Request:
        """Seconds, and the answers' logits (yes less no)."""
        prefix, branches = self.job["prefix"], self.job["branches"]
        everybody = range(1, len(branches) + 1)
        told = ([0], prefix, 0)
        if not cold and lib.llama_memory_seq_pos_max(self.memory, 0) < len(prefix) - 1:
            self._read([told], ())
        asked = [([n], ids, len(prefix)) for n, ids in zip(everybody, branches, strict=True)]
        began = time.perf_counter()
        if cold:
            lib.llama_memory_clear(self.memory, False)
        if cold and self.one_read:
            last = self._read([([0, *everybody], prefix, 0), *asked], range(1, len(asked) + 1))
        else:
            if cold:
                self._read([told], ())
            for n in everybody:
                lib.llama_memory_seq_cp(self.memory, 0, n, -1, -1)
            last = self._read(asked, range(len(asked)))
        vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        found = []
        for place in last:
            row = np.ctypeslib.as_array(lib.llama_get_logits_ith(self.context, place), shape=(vocabulary,))
            found.append(float(row[self.job["yes"]] - row[self.job["no"]]))
        seconds = time.perf_counter() - began
        for n in everybody:
            lib.llama_memory_seq_rm(self.memory, n, -1, -1)
        return {"seconds": seconds, "logits": found}

    def _read(self, parts: Sequence[tuple[list[int], list[int], int]], wanted: Sequence[int]) -> list[int]:
        """Read parts (sequences, tokens, first position) in one call; where the wanted parts end in the batch."""
        batch, place, last = self.batch, 0, []
        for part, (sequences, ids, start) in enumerate(parts):
            for offset, token in enumerate(ids):
                batch.token[place] = token
                batch.pos[place] = start + offset
                batch.n_seq_id[place] = len(sequences)
                for n, sequence in enumerate(sequences):
                    batch.seq_id[place][n] = sequence
                batch.logits[place] = part in wanted and offset == len(ids) - 1
                place += 1
            if part in wanted:
                last.append(place - 1)
        batch.n_tokens = place
        if code := lib.llama_decode(self.context, batch):
            raise SystemExit(f"llama_decode failed with {code}")
        return last


if __name__ == "__main__":
    main()
