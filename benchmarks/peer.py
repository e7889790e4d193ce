"""The peer: the documented Hugging Face recipe for Whisper with LoRA, at its best on this machine.

Seq2SeqTrainer and PEFT, LoRA of rank 32 on q_proj and v_proj, windows of 30 s, scaled-dot-product attention, bf16
autocast where the machine multiplies bf16 (fp32 elsewhere: emulated bf16 would be far slower), features prepared ahead
of the clock. Its labels lose the start token that the original recipe trains with
twice: the peer shall not lose for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from speechft.manifest import Manifest
from speechft.precision import default_device, inference_dtype
from speechft.scoring import score
from speechft.sources import resolve

LORA = {"both": "q_proj|v_proj", "encoder": r".*encoder.*\.(q_proj|v_proj)", "decoder": r".*decoder.*\.(q_proj|v_proj)"}
DECODE_BATCH = 16


class Peer:
    """Model, processor and prepared features of the recipe."""

    def __init__(self, model: str, placement: str = "both") -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

        folder = resolve(model)
        self.tokenizer = WhisperTokenizer.from_pretrained(folder)
        base = WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", use_safetensors=True
        )
        self.extractor = WhisperFeatureExtractor(base.config.num_mel_bins)
        targets: Any = LORA[placement].split("|") if placement == "both" else LORA[placement]
        self.model = get_peft_model(base, LoraConfig(r=32, lora_alpha=64, target_modules=targets, lora_dropout=0.05))
        self.start = base.config.decoder_start_token_id
        self.device = default_device()
        self.bf16 = inference_dtype(self.device) == torch.bfloat16

    def prepared(self, clips: Manifest) -> list[dict[str, Any]]:
        rows = []
        for clip in clips:
            features = self.extractor(clip.load(), sampling_rate=16_000).input_features[0]
            labels = self.tokenizer(" " + clip.text.strip()).input_ids
            rows.append({"input_features": features, "labels": labels[1:] if labels[0] == self.start else labels})
        return rows

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["labels"]) for row in rows)
        labels = torch.full((len(rows), longest), -100)
        for row, own in zip(labels, rows, strict=True):
            row[: len(own["labels"])] = torch.tensor(own["labels"])
        return {
            "input_features": torch.stack([torch.as_tensor(row["input_features"]) for row in rows]),
            "labels": labels,
        }

    def train(
        self,
        rows: list[dict[str, Any]],
        out: Path,
        *,
        batch_size: int = 8,
        epochs: float = 1,
        max_steps: int = -1,
        on_epoch: Callable[[int], None] = lambda step: None,
    ) -> list[float]:
        """Train and return the seconds of each step."""
        from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

        seconds: list[float] = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
                self.started = now()

            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                seconds.append(now() - self.started)

            def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                on_epoch(state.global_step)

        arguments = Seq2SeqTrainingArguments(
            output_dir=str(out), per_device_train_batch_size=batch_size, learning_rate=1e-3, warmup_steps=50,
            num_train_epochs=epochs, max_steps=max_steps, bf16=self.bf16, use_cpu=not torch.cuda.is_available(),
            save_strategy="no", eval_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
            remove_unused_columns=False, label_names=["labels"], seed=0,
            dataloader_num_workers=0 if self.device.type == "cpu" else 4,
        )  # fmt: skip
        trainer = Seq2SeqTrainer(
            model=self.model, args=arguments, train_dataset=rows, data_collator=self.collate, callbacks=[Clock()]
        )
        trainer.train()
        return seconds

    @torch.inference_mode()
    def wer(self, rows: list[dict[str, Any]], clips: Manifest) -> float:
        """Error rate with `generate()`, batches sorted by label length."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]["labels"]))
        texts = [""] * len(rows)
        self.model.eval()
        for start in range(0, len(order), DECODE_BATCH):
            part = order[start : start + DECODE_BATCH]
            frames = torch.stack([torch.as_tensor(rows[i]["input_features"]) for i in part]).to(self.model.device)
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
                ids = self.model.generate(input_features=frames, max_new_tokens=128)
            for i, text in zip(part, self.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                texts[i] = text
        self.model.train()
        return score(list(clips), texts).wer


def now() -> float:
    """Seconds, when all work given to the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
