package io.dsrt;

import java.io.File;
import java.lang.reflect.Array;
import java.nio.file.Path;
import java.util.Map;

/** Writes JSON: maps, iterables, arrays, numbers, booleans, strings, characters, enums and null. */
final class Json {
    private Json() {}

    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, "the value", out);
        return out.toString();
    }

    private static void write(Object value, String where, StringBuilder out) {
        if (value instanceof Map) {
            String between = "{";
            for (Map.Entry<?, ?> e : ((Map<?, ?>) value).entrySet()) {
                quote(e.getKey().toString(), out.append(between));
                write(e.getValue(), e.getKey().toString(), out.append(": "));
                between = ", ";
            }
            out.append(between.equals("{") ? "{}" : "}");
        } else if (value instanceof Iterable) {
            String between = "[";
            for (Object item : (Iterable<?>) value) {
                write(item, where, out.append(between));
                between = ", ";
            }
            out.append(between.equals("[") ? "[]" : "]");
        } else if (value != null && value.getClass().isArray()) {
            out.append('[');
            for (int i = 0; i < Array.getLength(value); ++i) write(Array.get(value, i), where, out.append(i > 0 ? ", " : ""));
            out.append(']');
        } else if (value == null || value instanceof Number || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum || value instanceof Path || value instanceof File) {
            quote(value.toString(), out);
        } else {
            throw DsrtException.invalid(where + ": JSON has no place for a " + value.getClass().getName());
        }
    }

    private static void quote(String text, StringBuilder out) {
        out.append('"');
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 0x20) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        out.append('"');
    }
}
