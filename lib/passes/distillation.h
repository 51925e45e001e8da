// Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531; hidden states as TinyBERT, arXiv 1909.10351, and DeepSpeed's compression
// examples) as a rewriting of the student's forward graph: the teacher's nodes join it, frozen and without dropout, on the same tokens, and
// the loss becomes
//   (1 - alpha) loss + alpha T^2 KL(softmax(teacher / T) || softmax(student / T)) + hidden * sum over blocks of mean (student's state -
//   teacher's state)^2
// It declares parameters, so it runs where a graph is built and is no row of passes.def.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"

namespace ds {

struct DistillationSpec {
    double temperature = 1, alpha = 0.5, hidden = 0;
    std::vector<int64_t> layers;  // the teacher's block that each of the student's follows; empty: the one of its number
};

inline constexpr std::string_view kTeacher = "teacher.";  // what the teacher's parameters' names begin with
inline bool is_teacher_tensor(std::string_view name) { return name.starts_with(kTeacher); }

// teacher: its forward graph for the same stream of tokens, dropout taken out, with a loss.
Status add_distillation(Graph& student, const Graph& teacher, const DistillationSpec& spec);

}  // namespace ds
