package io.dsrt;

import java.nio.charset.StandardCharsets;

/** A failed call: its code, and the library's words, which name the key, file or tensor, the value found and what is accepted. */
public final class DsrtException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** The class of a failure, in the order of the C codes from -1 down. */
    public enum Code {
        INVALID_ARGUMENT, CONFIG, NOT_FOUND, IO, CORRUPT, OUT_OF_MEMORY, UNSUPPORTED, STATE, BUSY, COMM, TIMEOUT, CANCELLED, DEVICE, USER, INTERNAL;

        /** The code's name in C, "DS_E_CONFIG". */
        public String cName() {
            return io.dsrt.swig.dsrt.status_name(-1 - ordinal());
        }
    }

    private final Code code;

    private DsrtException(Code code, String message) {
        super(message);
        this.code = code;
    }

    /** Called by the native side: what a call failed with: this, or what a callback threw during it. */
    static Throwable of(int code, byte[] message) {
        Code[] all = Code.values();
        Code known = code <= -1 && code >= -all.length ? all[-1 - code] : Code.INTERNAL;
        return Callbacks.cause(new DsrtException(known, new String(message, StandardCharsets.UTF_8)));
    }

    static DsrtException invalid(String message) {
        return new DsrtException(Code.INVALID_ARGUMENT, message);
    }

    public Code code() {
        return code;
    }
}
