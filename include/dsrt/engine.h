/* Engines: a model, its optimizer and its schedule, trained by micro-batches with DeepSpeed's semantics.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_ENGINE_H
#define DSRT_ENGINE_H

#include <dsrt/data.h>
#include <dsrt/options.h>
#include <dsrt/tokenizer.h>

DS_BEGIN_DECLS

/* Every key of the config with path, type, default and meaning, as JSON. ds_free. */
DS_API ds_status ds_config_describe(char **text);

/* What a run of this config would need, as JSON (ds_free). Runs nothing, and allocates no model. Arguments as for ds_engine_create; as many
   ranks as the config asks for are planned, whatever this machine has. The micro-batch is train_micro_batch_size_per_gpu rows of max_seq_length
   (or 128) tokens, all labelled. Its keys:
     rows, length            of that micro-batch
     parameters, trained_parameters, updated_parameters
                             elements of the whole model; those that are not frozen; those that one rank updates
     memory_bytes            of the rank that needs most: weights, gradients, optimizer_state, low_precision_weights, working (saved activations and
                             scratch), total
     recompute               level and blocks; where memory_limit chose them, chosen tells what was compared
     flops_per_micro_batch   of one rank, a multiply-add as two
     traffic                 bytes and exchanges that a rank sends in a step, by kind; traffic_bytes_per_step is their sum
     ranks, choices          how many; the ways to split each op over ranks that were compared, a line each
     timetable, stages       of a pipeline: micro_batches, schedule, bubble (idle share), table; each rank's stages, FLOPs and memory
     offload                 what lies in host memory or in files
     kernels                 the calls of a micro-batch */
DS_API ds_status ds_plan(const char *config, const ds_options *options, char **report_json);

/* Makes an engine. config: JSON text (its first byte after blanks and comments is '{'), a path to a JSON file, or NULL for what the
   environment's DSRT_CONFIG, else DEEPSPEED_CONFIG, holds (text or path). DeepSpeed's keys and dsrt's own: ds_config_describe. options:
   NULL, or host-supplied parts. Both are copied or retained. Collective. DS_E_CONFIG names the key and the nearest known one. */
DS_API ds_status ds_engine_create(const char *config, const ds_options *options, ds_engine **out);

/* Runs the model on one micro-batch in training mode (dropout on). b: rows of all of this process's data-parallel ranks; its contents are
   taken as of the call. loss: mean over the unignored labels of the micro-batch, equal on all processes; NULL: don't wait for it;
   DS_E_INVALID_ARGUMENT where the batch has no labels. A forward that no backward follows is dropped. Collective. As DeepSpeed's
   engine(...). */
DS_API ds_status ds_forward(ds_engine *e, const ds_batch *b, float *loss);

/* The gradient of the last forward's loss, added to what was accumulated; counts a micro-batch. DS_E_STATE: no forward, a second backward
   of one forward, or past the accumulation boundary (ds_step is due). A failure on the way (a callback's, a cancel) drops what was
   accumulated since the last update, as ds_zero_grad does, and says so. Collective. */
DS_API ds_status ds_backward(ds_engine *e);

/* The same for a loss of the host's own. gradients: by output name, of this process's micro-batch loss, shaped like the output, all
   together; "loss" (rank 0) weights the built-in loss. The engine applies the loss scale and 1/accumulation and averages over processes
   that hold different rows; masked positions are ignored. Collective. */
DS_API ds_status ds_backward_from(ds_engine *e, const ds_batch *gradients);

/* Updates the parameters once as many backwards were counted as the config accumulates, and DS_OK; earlier DS_PENDING, nothing happens.
   May be called after each backward or once. DS_SKIPPED: a gradient overflowed (in fp16, or in bf16
   with "check_grad_overflow"), and no parameter changed; in fp16 the loss scale was lowered once its hysteresis is used up, and global_steps
   and skipped_steps count it. DS_E_STATE: no backward since the last update. Collective. */
DS_API ds_status ds_step(ds_engine *e);

/* Drops the gradients accumulated so far and their count; other counters stay. An update does this too. Collective. */
DS_API ds_status ds_zero_grad(ds_engine *e);

/* Forward, backward and step over a whole global batch from `data`. loss: the step's normalised loss; may be NULL. DS_END when the data
   is exhausted (nothing was done): an epoch's last step may have fewer micro-batches, the call after it says so. DS_SKIPPED as ds_step.
   With the config's optimizer_in_backward (torchtune's optimizer_in_bwd) weights are updated within the backward pass, each when its
   gradient is complete, and no gradients are kept: 12 bytes a parameter with Adam in place of 16. What ds_cancel_set stops then
   is stopped before its backward pass or not at all. Collective. */
DS_API ds_status ds_train_batch(ds_engine *e, ds_data *data, float *loss);

/* Runs the model without dropout and keeps nothing for a backward; a pending forward and gradients stay. Labels and loss are optional.
   ds_output then reads this pass. Collective. */
DS_API ds_status ds_eval(ds_engine *e, const ds_batch *b, float *loss);

/* Changes at run time what can be changed: "optimizer.params.lr", "gradient_clipping", "scheduler" ... json: the key's new value. A schedule of
   the same type goes on from the update where it is; another begins anew.
   DS_E_UNSUPPORTED: a key that is fixed at creation; DS_E_CONFIG: an unknown key or a bad value. Collective, but for "logger": each process says the same, or
   all answer DS_E_INVALID_ARGUMENT. */
DS_API ds_status ds_engine_set(ds_engine *e, const char *key, const char *json);
/* The effective value of a key, as JSON; "" is the whole effective config, "client_state" what the loaded checkpoint held,
   "model_config" the model's config.json with its overrides ({} for a host's graph), "places" the processors that this process's ranks
   are bound to. ds_free. */
DS_API ds_status ds_engine_get(ds_engine *e, const char *key, char **json);

/* An output of the later of the last forward and the last eval, this process's rows in order, f32: logits, start_logits, end_logits,
   last_hidden_state, pooler_output, a graph's own. A snapshot. Masked positions read zero, unless the config's "outputs" names it. Waits
   for the pass. DS_E_STATE: no pass, or a backward has dropped it; DS_E_NOT_FOUND lists the outputs there are. Collective. */
DS_API ds_status ds_output(ds_engine *e, const char *name, ds_tensor **out);

/* A number about the run: loss (of the last micro-batch), lr (of the next update), momentum, loss_scale, grad_norm (before clipping),
   global_steps, global_samples, skipped_steps, micro_steps, tokens_per_second, peak_bytes, plan_bytes, steps_per_epoch ... Any thread, at any time. */
DS_API ds_status ds_metric(const ds_engine *e, const char *name, double *value);

/* Parameters, by index and name: the names of model.safetensors, tied weights once. Names and shapes live as long as the engine. */
DS_API ds_status ds_param_count(const ds_engine *e, size_t *n);
DS_API ds_status ds_param_name(const ds_engine *e, size_t i, const char **name);
DS_API ds_status ds_param_info(const ds_engine *e, const char *name, int32_t *ndim, const int64_t **shape, int32_t *trainable);

/* What of a parameter. */
enum {
    DS_WEIGHT = 0,        /* its values, from the master copy where there is one */
    DS_GRAD = 1,          /* what an update now would apply, before clipping: normalised, reduced, unscaled; zero after an update */
    DS_FIRST_MOMENT = 2,  /* the first moment or the momentum buffer; zeros before the first step */
    DS_SECOND_MOMENT = 3  /* the second moment; zeros before the first step */
};

/* Whole tensors in f32, gathered from or scattered to however many ranks. DS_GRAD may be set between the boundary's backward and its step
   only (elsewhere DS_E_STATE), replaces the reduced gradient, and clipping sees it. DS_E_UNSUPPORTED: a moment that the optimizer does not
   have. Collective. */
DS_API ds_status ds_param_get(ds_engine *e, const char *name, int32_t what, ds_tensor **out);
DS_API ds_status ds_param_set(ds_engine *e, const char *name, int32_t what, const ds_tensor *t);

/* Writes a checkpoint to dir/tag/, then names it in dir/latest: weights, optimizer, scaler, schedule, counters, random state, data
   cursor, checksummed; killed at any moment, the old or the new one loads. tag NULL: global_step<N>. options_json NULL, or
   {"client_state": any JSON, "weights_only": true, "async": true}. "async" returns once everything is copied (which takes as much memory
   again as what is saved) and writes in the background; the next ds_save or ds_load, and destroying, wait for it. If that writing failed,
   the next ds_step, ds_train_batch, ds_save or ds_load says so once, and has then done nothing else; with several processes, which must
   go on together, the next ds_save or ds_load. Collective. */
DS_API ds_status ds_save(ds_engine *e, const char *dir, const char *tag, const char *options_json);
/* Loads one, written under any parallel layout. tag NULL: latest. options_json NULL, or {"weights_only": true}: the weights alone; optimizer,
   schedule, counters and data cursor stay as they are. DS_E_NOT_FOUND, DS_E_CORRUPT name file and tensor. Collective. */
DS_API ds_status ds_load(ds_engine *e, const char *dir, const char *tag, const char *options_json);
/* Writes a Hugging Face folder: config.json, model.safetensors, tokenizer files. options_json, or NULL: {"dtype": "f32", "bf16" or "f16",
   "max_shard_bytes", "adapter", "quantized"}. "quantized": true keeps weights in the few bits that "quantization" (int4, int8_products) or
   "compression_training" (weight_quantization) made of them, in the form of compressed-tensors, which "model" reads back; DS_E_UNSUPPORTED
   names what that form lacks, DS_E_STATE says that nothing is in few bits. An engine with "lora" merges its active adapter into the weights; "adapter": true writes the adapter
   alone, as PEFT loads it: adapter_config.json and adapter_model.safetensors. Collective. */
DS_API ds_status ds_export(ds_engine *e, const char *dir, const char *options_json);

/* Writes a self-contained report.html: loss and learning-rate curves (resumed runs continue them), the memory plan and the timeline of a
   training step. contents_json, or NULL, adds to it: {"title": text, "summary": [[name, text], ...], "charts": [{"title", "x_label",
   "series": [{"name", "markers", "points": [[x, y], ...]}]}]}; a chart of a title that is there ("Loss") gets the series besides. */
DS_API ds_status ds_report(ds_engine *e, const char *path, const char *contents_json);

/* Hears of generated ids as they come. Non-zero stops generation; negative comes back as DS_E_USER. */
typedef int32_t (*ds_token_fn)(const int32_t *ids, size_t n, void *user);

/* How good the model is on rows of data, without dropout. data_json: as ds_data_open takes it; NULL: the config's "data", of its "split"
   the side that is not trained on. Every row counts once, in order, whatever the options say of shuffling. Of several processes each reads all rows and computes a part of them; process 0 writes the predictions.
   *scores_json (ds_free): {"task", "rows", "loss": mean over unignored labels, and by the task
     sequence_classification   "accuracy"
     token_classification      "precision", "recall", "f1" of entities and "accuracy" of tags as seqeval computes them, from each word's
                               first token; "types": the same of each kind of entity, with "support"
     question_answering        "exact_match", "f1" in percent as SQuAD's script computes them; the best span of at most
                               max_answer_tokens tokens over all windows of a context; that there is none is an answer where some row has none
     seq2seq                   "bleu", "precisions" in percent, "brevity_penalty", "length", "reference_length" as sacrebleu computes them
                               by default, of texts that ds_generate makes of the sources
     causal, mlm               "perplexity": e to the loss}
   options_json, or NULL: {"generate": ds_generate's options (greedy without), "max_answer_tokens" (30), "predictions": a file of lines
   {"row", "prediction", "reference"}}. DS_E_CORRUPT names file, line and column of a bad row. Leaves training as ds_eval and ds_generate
   do. Collective. */
DS_API ds_status ds_evaluate(ds_engine *e, const char *data_json, const char *options_json, char **scores_json);

/* The same scores of predictions that a host has, as *scores_json (ds_free). Both lists are JSON, an item a row, and as long as each other.
   metric: "spans": items are lists of tags such as "B-PER" (shares from 0 to 1); "squad": texts, references a text or a list of texts (an
   empty list: the answer is that there is none); "bleu": texts, references a text or a list of as many texts each. Any thread.
   DS_E_INVALID_ARGUMENT names the item. */
DS_API ds_status ds_score(const char *metric, const char *predictions_json, const char *references_json, char **scores_json);

/* Continues a prompt of n ids by a causal language model, or answers a source of n ids by an encoder-decoder: its encoder runs once, *ids are
   what its decoder makes behind the start token. options_json, or NULL; names and meanings are transformers':
     "max_new_tokens"      default 32; or "max_length": the prompt (of an encoder-decoder, its start token) counted too. A model with so many positions stops when they are used up;
                           a longer prompt is DS_E_INVALID_ARGUMENT
     "min_new_tokens"      no end before so many
     "eos_token_id"        (or "eos_id") an id or a list; -1: none. Default: generation_config.json's, else config.json's. It is the last id made
     "stop_strings"        a text or a list; the id that completes one is the last made. Needs a tokenizer
     "temperature"         0 (default): greedy; else ids are drawn, after "top_k" (0: all), "top_p" and "min_p" have cut the candidates, in this order
     "do_sample"           false: greedy in any case; true: draws, with temperature 1 where none is given
     "seed"                of the draws; the same seed, prompt and row give the same ids
     "repetition_penalty"  of ids that are there already, a causal model's prompt included
     "num_beams"           above 1: beam search, with "length_penalty" and "early_stopping" (true, false, "never"); no drawing then
     "no_repeat_ngram_size"  no run of so many ids comes twice; 0: any may
     "bad_words_ids"       lists of ids of which none is made whole
     "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"  the id that an encoder-decoder's answer begins behind; its first
                           id; the id of the last place. These and bad_words_ids: default as eos_token_id's; -1: none
     "use_cache"           false: no keys and values are kept and every token costs the whole sequence (as it does on a device, and with tensor, pipeline, sequence or expert
                           ranks and ZeRO 3)
   on_token (may be NULL) runs on this thread for each new id, with num_beams above 1 once at the end. *ids: the new ids, n_ids of them;
   ds_free. Gradients, counters and a forward whose backward is to come are left as they are; ds_output reads no earlier eval afterwards.
   The cache (2 numbers of the products' type a layer, key-value head column and token) is memory of this call only. Collective: all processes
   pass the same prompts and options (else DS_E_INVALID_ARGUMENT in all), deal the prompts out over data ranks and get the same ids; each one's
   on_token, where it has one, hears all of them, and what one answers ends it for all. */
DS_API ds_status ds_generate(ds_engine *e, const int32_t *prompt, size_t n, const char *options_json, ds_token_fn on_token, void *user,
                             int32_t **ids, size_t *n_ids);

/* Hears of new ids of one row, counted from 0. Positive ends that row; negative ends all and comes back as DS_E_USER. */
typedef int32_t (*ds_row_tokens_fn)(size_t row, const int32_t *ids, size_t n, void *user);

/* The same for several prompts at once, of any lengths: one after another in `prompts`, lengths[0], lengths[1] ... ids each. Weights are read
   once for all rows, so this is much faster than one by one; each row's ids are those it would get alone (drawn ids are another row's
   draws: row 0's are ds_generate's). *ids: the new ids of all rows, one after another; *n_ids: how many each row has. Both: ds_free. */
DS_API ds_status ds_generate_batch(ds_engine *e, const int32_t *prompts, const size_t *lengths, size_t rows, const char *options_json,
                                   ds_row_tokens_fn on_tokens, void *user, int32_t **ids, size_t **n_ids);

/* Frees threads, memory, files and communicators. What still refers to the engine then answers DS_E_STATE. */
DS_API void ds_engine_destroy(ds_engine *e);

DS_END_DECLS

#endif /* DSRT_ENGINE_H */
