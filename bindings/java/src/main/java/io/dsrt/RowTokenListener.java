package io.dsrt;

/** Hears of generated ids of several prompts as they come. */
@FunctionalInterface
public interface RowTokenListener {
    /** New ids of one row, counted from 0; false ends that row. */
    boolean tokens(int row, int[] ids) throws Exception;
}
