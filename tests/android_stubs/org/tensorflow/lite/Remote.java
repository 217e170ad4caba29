package org.tensorflow.lite;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.Socket;
import java.nio.ByteBuffer;

/** No part of any library: a model run by the interpreter of the test's own process, over a socket. */
public final class Remote implements AutoCloseable {
    public final int inputBytes;
    private final Socket socket;

    public Remote(ByteBuffer model, String format) {
        try {
            socket = new Socket("127.0.0.1", Integer.getInteger("interpreter.port"));
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            out.writeUTF(format);
            send(out, model);
            inputBytes = new DataInputStream(socket.getInputStream()).readInt();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    public ByteBuffer run(ByteBuffer input) {
        try {
            send(new DataOutputStream(socket.getOutputStream()), input);
            DataInputStream in = new DataInputStream(socket.getInputStream());
            return ByteBuffer.wrap(in.readNBytes(in.readInt()));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static void send(DataOutputStream out, ByteBuffer buffer) throws IOException {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        out.writeInt(bytes.length);
        out.write(bytes);
        out.flush();
    }

    @Override
    public void close() {
        try {
            socket.close();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
