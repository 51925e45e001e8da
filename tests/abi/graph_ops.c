/* Ops of the host's own: values and gradients by callbacks, in built graphs and in text, and every way in which they can fail. */
#include "training.h"

#include <pthread.h>

typedef struct {
    int shapes, forwards, backwards, released, fail_forward, fail_backward, wanted[2];
    pthread_t thread;
    ds_engine *engine;
    ds_status inner;
} Op;

static size_t count(const ds_op_value *v) {
    size_t n = 1;
    int32_t d;
    for (d = 0; d < v->ndim; ++d) n *= (size_t)v->shape[d];
    return n;
}

/* y = x * x * w with w for each column, and the sum of each row of y. */
static int32_t shape(void *user, const char *attrs, const ds_op_value *in, size_t n, int32_t *ndim, int64_t (*shapes)[8]) {
    Op *op = user;
    ++op->shapes;
    if (n != 2 || in[0].ndim != 2 || in[1].ndim != 1 || in[0].shape[1] != in[1].shape[0] || in[0].dtype != DS_F32 || in[0].data) return -7;
    if (!strstr(attrs, "\"factor\":2") && strcmp(attrs, "{}") != 0) return -8;
    ndim[0] = 2;
    shapes[0][0] = in[0].shape[0];
    shapes[0][1] = in[0].shape[1];
    ndim[1] = 1;
    shapes[1][0] = in[0].shape[0];
    return 0;
}

static int32_t forward(void *user, const char *attrs, const ds_op_value *in, size_t n, const ds_op_value *out) {
    Op *op = user;
    const float *x = in[0].data, *w = in[1].data, factor = strstr(attrs, "factor") ? 2 : 1;
    float *y = out[0].data, *sums = out[1].data;
    const size_t columns = (size_t)in[0].shape[1];
    size_t i;
    (void)n;
    ++op->forwards;
    if (!pthread_equal(op->thread, pthread_self())) return -9;
    if (op->engine) op->inner = ds_zero_grad(op->engine);
    if (op->fail_forward) return -21;
    for (i = 0; i < (size_t)out[1].shape[0]; ++i) sums[i] = 0;
    for (i = 0; i < count(&in[0]); ++i) sums[i / columns] += y[i] = factor * x[i] * x[i] * w[i % columns];
    return 0;
}

static int32_t backward(void *user, const char *attrs, const ds_op_value *in, size_t n, const ds_op_value *out, const ds_op_value *dout, const ds_op_value *din) {
    Op *op = user;
    const float *x = in[0].data, *w = in[1].data, *dy = dout[0].data, *dsums = dout[1].data, factor = strstr(attrs, "factor") ? 2 : 1;
    float *dx = din[0].data, *dw = din[1].data;
    const size_t columns = (size_t)in[0].shape[1];
    size_t i;
    (void)n, (void)out;
    ++op->backwards;
    op->wanted[0] = dx != NULL;
    op->wanted[1] = dw != NULL;
    if (op->fail_backward) return DS_E_OUT_OF_MEMORY;
    for (i = 0; dw && i < columns; ++i) dw[i] = 0;
    for (i = 0; i < count(&in[0]); ++i) {
        const float g = factor * (dy[i] + dsums[i / columns]);
        if (dx) dx[i] = 2 * g * x[i] * w[i % columns];
        if (dw) dw[i % columns] += g * x[i] * x[i];
    }
    return 0;
}

static void on_release(void *user) { ++((Op *)user)->released; }

static ds_op_callbacks callbacks_of(Op *op) {
    ds_op_callbacks c;
    memset(&c, 0, sizeof(c));
    memset(op, 0, sizeof(*op));
    op->thread = pthread_self();
    c.struct_size = sizeof(c);
    c.user = op;
    c.n_outputs = 2;
    c.shape = shape;
    c.forward = forward;
    c.backward = backward;
    c.release = on_release;
    return c;
}

static ds_engine *engine_with(ds_graph *g, const char *rest, ds_status expected) {
    char config[512];
    ds_options *o = NULL;
    ds_engine *e = NULL;
    ds_status s;
    snprintf(config, sizeof(config), "{\"train_batch_size\": 2, \"gradient_clipping\": 0, %s\"optimizer\": {\"type\": \"SGD\", \"params\": {\"lr\": 0.001}}}", rest);
    assert_ok(ds_options_create(&o));
    assert_ok(ds_options_set_graph(o, g));
    s = ds_engine_create(config, o, &e);
    if (s != expected) fail_msg("%s: %s", ds_status_name(s), ds_last_error());
    ds_options_destroy(o);
    return e;
}

/* h = x u; y, s = square(h, w); loss = mean(y) + mean(s). The same with ops of the library, where own is NULL. */
static const char kText[] = "graph m(%x: f32[rows,3], param %u: f32[3,4] normal 0.5, param %w: f32[4] normal 0.5) {\n"
                            "  %h = matmul %x, %u\n"
                            "  %y, %s = square %h, %w {factor = 2}\n"
                            "  %a = mean %y\n  %b = mean %s\n  %loss = add %a, %b\n"
                            "  output y = %y\n  loss = %loss\n}\n";
static const char kPlain[] = "graph m(%x: f32[rows,3], param %u: f32[3,4] normal 0.5, param %w: f32[4] normal 0.5) {\n"
                             "  %h = matmul %x, %u\n"
                             "  %q = mul %h, %h\n  %r = mul %q, %w\n  %y = scale %r {factor = 2}\n  %s = sum %y {axes = [1]}\n"
                             "  %a = mean %y\n  %b = mean %s\n  %loss = add %a, %b\n"
                             "  output y = %y\n  loss = %loss\n}\n";

static ds_engine *own_engine(Op *op, const char *rest) {
    const ds_op_callbacks c = callbacks_of(op);
    ds_graph *g = NULL;
    ds_engine *e;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_define_op(g, "square", &c));
    assert_ok(ds_graph_read(g, kText));
    e = engine_with(g, rest, DS_OK);
    ds_graph_destroy(g);
    return e;
}

static ds_engine *plain_engine(const char *rest) {
    ds_graph *g = NULL;
    ds_engine *e;
    assert_ok(ds_graph_parse(kPlain, &g));
    e = engine_with(g, rest, DS_OK);
    ds_graph_destroy(g);
    return e;
}

static ds_batch *batch(void) {
    static const float x[6] = {1, -2, 3, 0.5f, 4, -1};
    return x_batch(2, 3, x);
}

static void it_trains_as_ops_of_the_library_do(void **state) {
    static const char *const modes[] = {"", "\"bf16\": {\"enabled\": true}, ", "\"recompute\": 2, "};
    size_t mode;
    (void)state;
    for (mode = 0; mode < 3; ++mode) {
        Op op;
        ds_engine *own = own_engine(&op, modes[mode]), *plain = plain_engine(modes[mode]);
        ds_batch *b = batch();
        const double bound = mode == 1 ? 0.15 : 1e-5;
        int i;
        for (i = 0; i < 3; ++i) {
            const float mine = train(own, b), theirs = train(plain, b);
            if (fabs(mine - theirs) > bound * fabs(theirs)) fail_msg("%s: loss %g, not %g", modes[mode], mine, theirs);
            assert_true(relative_of(own, plain, DS_GRAD) < bound);
            assert_ok(ds_step(own));
            assert_ok(ds_step(plain));
        }
        assert_true(relative_of(own, plain, DS_WEIGHT) < bound);
        assert_true(op.forwards >= 3 && op.backwards == 3 && op.wanted[0] && op.wanted[1]);
        assert_int_equal(op.released, 0);
        ds_engine_destroy(own);
        assert_int_equal(op.released, 1);
        ds_engine_destroy(plain);
        ds_batch_destroy(b);
    }
}

static void it_is_built_value_by_value(void **state) {
    const int64_t x_shape[2] = {-1, 3}, w_shape[1] = {3};
    Op op;
    ds_op_callbacks used = callbacks_of(&op);
    ds_graph *g = NULL;
    ds_engine *e;
    ds_batch *b = batch();
    ds_tensor *t = NULL;
    int32_t in[2], out[2], loss;
    float y[6], value;
    (void)state;
    assert_ok(ds_graph_create(&g));
    assert_ok(ds_graph_define_op(g, "square", &used));
    assert_ok(ds_graph_input(g, "x", DS_F32, 2, x_shape, &in[0]));
    assert_ok(ds_graph_param(g, "w", DS_F32, 1, w_shape, "{\"type\": \"ones\"}", &in[1]));
    assert_fails(DS_E_USER, "-8", ds_graph_op(g, "square", in, 2, "{\"factor\": 3}", out, 2));
    assert_fails(DS_E_USER, "square shape() returned -7", ds_graph_op(g, "square", in, 1, NULL, out, 2));
    assert_ok(ds_graph_op(g, "square", in, 2, NULL, out, 2));
    assert_ok(ds_graph_op(g, "mean", &out[1], 1, NULL, &loss, 1));
    assert_ok(ds_graph_output(g, "y", out[0]));
    assert_ok(ds_graph_loss(g, loss));
    e = engine_with(g, "", DS_OK);
    ds_graph_destroy(g);
    assert_ok(ds_forward(e, b, &value));
    assert_true(fabs(value - (1 + 4 + 9 + 0.25 + 16 + 1) / 2) < 1e-5);
    assert_ok(ds_output(e, "y", &t));
    assert_ok(ds_tensor_read(t, DS_F32, y, sizeof(y)));
    assert_true(y[1] == 4 && y[4] == 16);
    ds_tensor_destroy(t);
    assert_ok(ds_backward(e));
    assert_true(!op.wanted[0] && op.wanted[1]); /* x is data */
    ds_engine_destroy(e);
    assert_int_equal(op.released, 1);
    ds_batch_destroy(b);
}

static void its_failures_are_the_calls(void **state) {
    Op op;
    ds_engine *e = own_engine(&op, ""), *fresh;
    ds_batch *b = batch();
    float loss;
    Op again;
    (void)state;
    op.fail_forward = 1;
    assert_fails(DS_E_USER, "square forward() returned -21", ds_forward(e, b, &loss));
    op.fail_forward = 0;
    assert_ok(ds_forward(e, b, &loss));
    op.fail_backward = 1;
    assert_fails(DS_E_USER, "square backward() returned -6 (DS_E_OUT_OF_MEMORY)", ds_backward(e));
    assert_fails(DS_E_STATE, "forward", ds_backward(e));
    op.fail_backward = 0;
    op.engine = e;
    assert_ok(ds_forward(e, b, &loss));
    assert_int_equal(op.inner, DS_E_BUSY);
    op.engine = NULL;
    assert_ok(ds_backward(e));
    assert_ok(ds_step(e));
    fresh = own_engine(&again, "");
    train(fresh, b);
    assert_ok(ds_step(fresh));
    assert_true(relative_of(e, fresh, DS_WEIGHT) == 0); /* failures left nothing behind */
    ds_engine_destroy(e);
    ds_engine_destroy(fresh);
    ds_batch_destroy(b);
}

/* Gradients are added where they lie, so a pass that ends half way leaves none: that is told, and the step begins anew. */
static void a_failing_backward_drops_what_was_accumulated(void **state) {
    static const char kTwo[] = "\"train_micro_batch_size_per_gpu\": 1, \"gradient_accumulation_steps\": 2, ";
    Op op, again;
    ds_engine *e = own_engine(&op, kTwo), *fresh = own_engine(&again, kTwo);
    ds_batch *b = batch();
    int i;
    (void)state;
    train(e, b);
    assert_int_equal(ds_step(e), DS_PENDING);
    assert_ok(ds_forward(e, b, NULL));
    op.fail_backward = 1;
    assert_fails(DS_E_USER, "square backward() returned -6 (DS_E_OUT_OF_MEMORY); the gradients of the 1 micro-batches before it are dropped, too", ds_backward(e));
    assert_fails(DS_E_STATE, "no backward", ds_step(e));
    op.fail_backward = 0;
    for (i = 0; i < 2; ++i) {
        train(e, b);
        train(fresh, b);
        assert_int_equal(ds_step(e), i == 0 ? DS_PENDING : DS_OK);
    }
    assert_ok(ds_step(fresh));
    assert_true(relative_of(e, fresh, DS_WEIGHT) == 0);
    ds_engine_destroy(e);
    ds_engine_destroy(fresh);
    ds_batch_destroy(b);
}

static void what_cannot_be_is_refused(void **state) {
    Op op;
    ds_op_callbacks c = callbacks_of(&op), no_forward = c, no_outputs = c, no_gradient = c;
    struct { ds_op_callbacks known; size_t later; } newer;
    ds_graph *g = NULL;
    ds_engine *e;
    (void)state;
    no_forward.forward = NULL;
    no_outputs.n_outputs = 0;
    no_gradient.backward = NULL;
    memset(&newer, 0, sizeof(newer));
    newer.known = c;
    newer.known.struct_size = sizeof(newer);
    newer.later = 1;
    assert_ok(ds_graph_create(&g));
    assert_fails(DS_E_INVALID_ARGUMENT, "forward must not be NULL", ds_graph_define_op(g, "square", &no_forward));
    assert_fails(DS_E_INVALID_ARGUMENT, "n_outputs must be 1 to 8", ds_graph_define_op(g, "square", &no_outputs));
    assert_fails(DS_E_UNSUPPORTED, "struct_size", ds_graph_define_op(g, "square", &newer.known));
    assert_fails(DS_E_INVALID_ARGUMENT, "no name of an op", ds_graph_define_op(g, "a b", &c));
    assert_fails(DS_E_INVALID_ARGUMENT, "there is an op add already", ds_graph_define_op(g, "add", &c));
    assert_int_equal(op.released, 0); /* never for calls that failed */
    assert_fails(DS_E_INVALID_ARGUMENT, "there is no op 'square'", ds_graph_read(g, kText));
    assert_ok(ds_graph_define_op(g, "square", &c));
    assert_fails(DS_E_INVALID_ARGUMENT, "there is an op square already", ds_graph_define_op(g, "square", &c));
    assert_ok(ds_graph_read(g, kText));
    assert_fails(DS_E_STATE, "values already", ds_graph_read(g, kText));
    assert_null(engine_with(g, "\"parallel\": {\"data\": 2}, ", DS_E_UNSUPPORTED));
    assert_non_null(strstr(ds_last_error(), "op square of the graph is the host's own"));
    ds_graph_destroy(g);
    assert_int_equal(op.released, 1);
    assert_ok(ds_graph_create(&g));
    no_gradient.user = &op;
    assert_ok(ds_graph_define_op(g, "square", &no_gradient));
    assert_ok(ds_graph_read(g, kText));
    e = engine_with(g, "", DS_OK);
    {
        ds_batch *b = batch();
        float loss;
        assert_fails(DS_E_UNSUPPORTED, "square: this op has no gradient", ds_forward(e, b, &loss));
        assert_ok(ds_eval(e, b, &loss));
        ds_batch_destroy(b);
    }
    ds_engine_destroy(e);
    ds_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(it_trains_as_ops_of_the_library_do), TEST(it_is_built_value_by_value), TEST(its_failures_are_the_calls), TEST(a_failing_backward_drops_what_was_accumulated), TEST(what_cannot_be_is_refused)};
    return RUN(tests);
}
