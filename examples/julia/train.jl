# Trains the model of examples/first/config.json, keeps a checkpoint, and lets the model write. Run it from the root of the repository:
#     julia --project=bindings/julia examples/julia/train.jl FOLDER STEPS [--resume]
# STEPS counts from the beginning of training, across runs. The last column is the loss again, bit by bit: all languages print the same.
using DSRT
using Printf

function train(folder, steps, resume)
    engine = Engine("examples/first/config.json")
    data = Data(engine)
    if resume
        load!(engine, folder)
        @printf("resumed at step %.0f\n", metric(engine, "global_steps"))
    end
    while metric(engine, "global_steps") < steps
        step = train_batch!(engine, data)
        step === nothing && continue  # the next call begins the next epoch
        @printf("step %d  loss %.4f  %08x\n", step.number, step.loss, reinterpret(UInt32, step.loss))
    end
    save(engine, folder)

    tokenizer = Tokenizer("examples/pretrain/tokenizer.json")
    written = generate(engine, encode(tokenizer, "'Twas ").ids; options = """{"max_new_tokens": 60, "temperature": 0}""")
    println("writes: ", replace(decode(tokenizer, written), "\n" => " / "))
end

length(ARGS) < 2 && (println(stderr, "usage: train FOLDER STEPS [--resume]"); exit(2))
train(ARGS[1], parse(Float64, ARGS[2]), length(ARGS) > 2)
