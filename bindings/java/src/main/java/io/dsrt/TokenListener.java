package io.dsrt;

/** Hears of generated ids as they come. */
@FunctionalInterface
public interface TokenListener {
    /** false stops. */
    boolean tokens(int[] ids) throws Exception;
}
