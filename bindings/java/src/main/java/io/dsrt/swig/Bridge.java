package io.dsrt.swig;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/** What the generated classes of this package stand on: the native library, texts and memory. Not for use from outside. */
public final class Bridge {
    private Bridge() {}

    /** Loads libdsrt_java.so: the file that the property dsrt.library names, else from java.library.path, else the copy in the jar. */
    static void load() {
        String named = System.getProperty("dsrt.library");
        if (named != null) {
            System.load(Path.of(named).toAbsolutePath().toString());
            return;
        }
        try {
            System.loadLibrary("dsrt_java");
        } catch (UnsatisfiedLinkError notOnPath) {
            try (InputStream in = Bridge.class.getResourceAsStream("/native/libdsrt_java.so")) {
                if (in == null) throw notOnPath;
                Path copy = Files.createTempFile("libdsrt_java", ".so");
                Files.copy(in, copy, StandardCopyOption.REPLACE_EXISTING);
                System.load(copy.toString());
                Files.delete(copy);
            } catch (IOException e) {
                throw new UnsatisfiedLinkError("libdsrt_java.so could not be taken out of the jar: " + e.getMessage());
            }
        }
    }

    public static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    public static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    public static ByteBuffer ordered(ByteBuffer memory) {
        return memory == null ? null : memory.order(ByteOrder.nativeOrder());
    }
}
