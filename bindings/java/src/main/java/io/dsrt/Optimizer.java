package io.dsrt;

import java.nio.FloatBuffer;

/** An optimizer of the host's own. */
public interface Optimizer {
    /** Numbers of state an element: the engine keeps and checkpoints them, zeros at first. */
    int statePerElement();

    /** Changes weight and state of one span of a parameter in place. The buffers are the library's memory, and not to be kept. */
    void update(String parameter, long step, double lr, FloatBuffer weight, FloatBuffer gradient, FloatBuffer state) throws Exception;
}
