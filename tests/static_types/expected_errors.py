"""Mistakes that an editor shows before the program runs: each line ends with the type checker's rule that reports it.

`tests/test_types.py` runs basedpyright on this file, which is never imported.
"""

# ruff: noqa: B018

import gradtx as gx

gx.adamw("0.1")  # error: reportArgumentType
gx.adam(0.1, b1="0.9")  # error: reportArgumentType
gx.adam(0.1, mu_dtype=0.5)  # error: reportArgumentType
gx.sgd(learning_rate=None)  # error: reportArgumentType
gx.sgd()  # error: reportCallIssue
gx.sgd(0.1, nesterov=0.9)  # error: reportArgumentType
gx.adam(0.1, beta1=0.9)  # error: reportCallIssue
gx.adamx(0.1)  # error: reportAttributeAccessIssue
gx.scale_by_adam("0.9")  # error: reportArgumentType
gx.clip_by_global_norm([1.0])  # error: reportArgumentType
gx.chain(gx.clip(1.0), 0.1)  # error: reportArgumentType
gx.chain(gx.clip(1.0), gx.adam)  # error: reportArgumentType
gx.chain([gx.clip(1.0), gx.sgd(0.1)])  # error: reportArgumentType
gx.named_chain(gx.clip(1.0))  # error: reportArgumentType
gx.partition({"a": 0.1}, "a")  # error: reportArgumentType
gx.accumulate(2, gx.sgd(0.1))  # error: reportArgumentType
gx.apply_if_finite("adam")  # error: reportArgumentType
gx.cosine_decay_schedule("0.1", 100)  # error: reportArgumentType
gx.cosine_decay_schedule(0.1)  # error: reportCallIssue
gx.adam(0.1).learning_rate  # error: reportAttributeAccessIssue
gx.adam(0.1).links = ()  # error: reportAttributeAccessIssue
gx.select.path(3)  # error: reportArgumentType
gx.select.ndim(min="2")  # error: reportArgumentType
gx.describe(0.1, {})  # error: reportArgumentType
gx.diff(gx.sgd(0.1), "adam")  # error: reportArgumentType
gx.explain(gx.sgd(0.1), {}, {}, leaf=3)  # error: reportArgumentType
