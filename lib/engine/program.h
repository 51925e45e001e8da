// A program: something that can be trained. It packs a batch into the operands of a graph, builds that graph for a shape, and unpacks
// outputs. There are two: a model family on packed tokens, and a graph that the host built.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "data/batch.h"
#include "engine/host_graph.h"
#include "models/model.h"
#include "passes/adapters.h"
#include "passes/block_route.h"

namespace ds {

// A batch, ready for a plan. Holds its own copies: the host may change the batch afterwards.
struct Packed {
    StreamShape shape;
    std::map<std::string, HostTensor> inputs;  // by the graph operand's name, in the operand's type
    std::vector<int32_t> places;               // of a model: the place in the padded batch of each packed token
    Shape grid;                                // [rows, length] of the batch
    std::vector<int32_t> source_places;        // likewise of an encoder's tokens
    Shape source_grid;
    int64_t label_count = 0;  // unignored labels: the weight of this micro-batch
    int64_t part_weight = 0;  // of this part's loss in the loss of the whole batch
    bool labels = false;
    int64_t tokens = 0;     // real ones, for throughput
    BlockRoute routing;     // what a training pass leaves out
    bool stand_in = false;  // another data rank's rows, for one that has none but must take part
};

class Program {
public:
    virtual ~Program() = default;
    // outputs: those that will be built; they may make positions count that otherwise would not.
    // first_row: of a batch that is part of a larger one; random numbers belong to places in the whole one.
    virtual Result<Packed> pack(const Batch& batch, const std::set<std::string>& outputs, int64_t first_row = 0) const = 0;
    // Which dimension of a batch's tensor counts rows; -1: none, every part of the batch has it whole.
    virtual int row_dimension(const std::string& name) const = 0;
    virtual Result<Graph> build(const StreamShape& shape, const std::set<std::string>& outputs) const = 0;
    // An output of the graph, f32, as the host sees it; masked positions are zero. Of each part of the batch, rows in order.
    virtual HostTensor unpack(const std::string& output, const Packed& packed, HostTensor value) const = 0;
    // The gradient of an output, from the host's form to the graph's.
    virtual Result<HostTensor> pack_gradient(const std::string& output, const Packed& packed, const HostTensor& gradient,
                                             const Shape& graph_shape) const = 0;
    virtual std::vector<std::string> outputs() const = 0;
    virtual int row_dimension_of_output(const std::string& name) const = 0;
    virtual const Model* model() const { return nullptr; }
};

// whole: outputs of the config, in which masked positions count too.
// adapters: what is added to the model's products, or null; outlives the program.
std::unique_ptr<Program> make_program(std::shared_ptr<const Model> model, std::set<std::string> whole,
                                      const AdapterSpec* adapters = nullptr);
std::unique_ptr<Program> make_program(std::shared_ptr<const HostGraph> graph);

}  // namespace ds
