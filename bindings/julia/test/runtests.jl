using DSRT, Test

const config = """{"model": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16, "n_embd": 8, "n_layer": 1,
    "n_head": 2, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}, "threads": 1, "train_micro_batch_size_per_gpu": 2,
    "optimizer": {"type": "SGD", "params": {"lr": 0.1, "momentum": 0.9}}}"""
const ids = Int64[1 5; 2 6; 3 7; 4 8]  # length x rows

@testset "tensors" begin
    t = Tensor(Float32[1 2 3; 4 5 6])
    @test size(t) == (2, 3) && eltype(t) == Float32 && Array(t) == [1 2 3; 4 5 6]
    view = array(t)
    view[2, 1] = 9
    close(t)
    @test view[2, 1] == 9
    @test_throws ArgumentError Tensor([1 + 2im])
end

@testset "training, callbacks, errors" begin
    engine = Engine(config)
    at = Ref(0)
    data = Data(() -> (at[] += 1) % 4 == 0 ? nothing : ["input_ids" => ids, "labels" => ids], engine)
    losses = [step.loss for step in epoch(engine, data)]
    @test length(losses) == 3 && losses[3] < losses[1]
    broken = Data(() -> throw(DomainError(2, "row")), engine)
    @test_throws DomainError train_batch!(engine, broken)
    @test forward!(engine, Batch("input_ids" => ids, "labels" => ids)) > 0
    @test length(generate(engine, [1, 2]; options = """{"max_new_tokens": 5}""")) == 5
    @test length(generate(engine, [1, 2]; on_tokens = _ -> false)) == 1
    @test generate_batch(engine, [[1, 2], [3]]; options = """{"max_new_tokens": 4}""") == [generate(engine, p; options = """{"max_new_tokens": 4}""") for p in [[1, 2], [3]]]
    @test_throws DomainError generate_batch(engine, [[1], [2]]; on_tokens = (row, _) -> throw(DomainError(row, "row")))
    set_log((_...) -> throw(DomainError(1, "log")), DSRT.DS_LOG_TRACE)
    @test_throws DomainError Engine(config)
    set_log(nothing)
    error = try Engine("""{"optimiser": {}}""") catch e; e end
    @test error isa DSRTError && error.status == DSRT.DS_E_CONFIG && occursin("did you mean optimizer", sprint(showerror, error))
    close(engine)
    closed = try step!(engine) catch e; e end
    @test closed isa DSRTError && closed.status == DSRT.DS_E_STATE && closed.message == "this engine is closed"
end

@testset "an optimizer of one's own" begin
    momentum = Optimizer(1) do parameter, step, lr, weight, gradient, state
        state[1, :] .= 0.9f0 .* state[1, :] .+ gradient
        weight .-= Float32(lr) .* state[1, :]
    end
    run(engine) = map(1:5) do _
        loss = forward!(engine, Batch("input_ids" => ids, "labels" => ids))
        backward!(engine)
        step!(engine)
        loss
    end
    @test run(Engine(config; optimizer = momentum)) ≈ run(Engine(config)) atol = 1e-5
end

@testset "an op of one's own" begin
    factor(attributes) = parse(Float32, match(r"[0-9.]+", attributes).match)
    square = Op((in, out; attributes) -> (out[1] .= factor(attributes) .* in[1] .^ 2; out[2] .= vec(sum(out[1]; dims = 1))); outputs = 2,
        shapes = (in; _...) -> (in[1], in[1][1:1]),
        backward = (in, _, given, wanted; attributes) -> wanted[1] .= 2 .* factor(attributes) .* in[1] .* (given[1] .+ given[2]'))
    text(body) = "graph m(%x: f32[rows,3], param %w: f32[3,2] normal 0.5) {\n  %h = matmul %x, %w\n$body  %a = mean %y\n  %b = mean %s\n  %loss = add %a, %b\n  loss = %loss\n}\n"
    settings = """{"optimizer": {"type": "SGD", "params": {"lr": 0.01}}, "train_micro_batch_size_per_gpu": 2, "threads": 1}"""
    own = Graph()
    define_op!(own, "square", square)
    read!(own, text("  %y, %s = square %h {factor = 2}\n"))
    built_in = Graph(text("  %q = mul %h, %h\n  %y = scale %q {factor = 2}\n  %s = sum %y {axes = [1]}\n"))
    run(graph) = (e = Engine(settings; graph = graph); map(1:4) do _
        loss = forward!(e, Batch("x" => Float32[1 0.5; -2 4; 3 -1]))
        backward!(e)
        step!(e)
        loss
    end)
    @test run(own) ≈ run(built_in) rtol = 1e-5
    broken = Graph()
    define_op!(broken, "broken", Op((in, out; _...) -> throw(DomainError(3, "row"))))
    read!(broken, "graph m(%x: f32[rows,3], param %w: f32[3] ones) {\n  %h = mul %x, %w\n  %y = broken %h\n  output y = %y\n}\n")
    @test_throws DomainError predict(Engine(settings; graph = broken), Batch("x" => Float32[1 2; 3 4; 5 6]), "y")
    @test_throws DSRTError define_op!(broken, "matmul", square)
end

@testset "text" begin
    tokenizer = Tokenizer(joinpath(get(ENV, "DSRT_TEST_DATA", joinpath(@__DIR__, "../../../tests/data")), "languages"))
    stream = TextStream(tokenizer)
    @test [put!(stream, [i]) for i in (0, 2, 3, 1)] == ["a", "", "é", "b"]
    @test put!(stream, [0, 2]) * finish!(stream) == "a\ufffd"
    @test chat_text(tokenizer, """[{"role": "user", "content": "é"}]"""; options = """{"add_generation_prompt": true}""") == "<user>é<assistant>"
    pieces = String[]
    text = generate_text(Engine(config), tokenizer, "a"; on_text = piece -> push!(pieces, piece))
    @test text == join(pieces)
end

@testset "nothing is left behind" begin
    for _ in 1:10_000
        Batch("input_ids" => ids)
        Graph()
    end
    GC.gc()
    before = parse(Int, split(read("/proc/self/statm", String))[2])
    for _ in 1:10_000
        Batch("input_ids" => ids)
        Graph()
    end
    GC.gc()
    @test parse(Int, split(read("/proc/self/statm", String))[2]) - before < 8 << 8
end
