package io.dsrt;

/** Hears of generated text as it comes. */
@FunctionalInterface
public interface TextListener {
    /** A piece of whole characters, never empty; false stops. */
    boolean text(String piece) throws Exception;
}
