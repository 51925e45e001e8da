package io.dsrt;

/** An iterator of the host's own over micro-batches. */
@FunctionalInterface
public interface DataSource {
    /** Fills the batch, which is empty and not to be kept; false at the end of an epoch. The call after that starts the next one. */
    boolean next(Batch batch) throws Exception;

    /** One whose place is kept in checkpoints. */
    interface WithCursor extends DataSource {
        /** The place, as JSON text. */
        String save() throws Exception;

        void restore(String cursor) throws Exception;
    }
}
