package ai.onnxruntime;

import java.nio.ByteBuffer;

/** onnxruntime.ai/docs/api/java/ai/onnxruntime/OrtEnvironment.html */
public final class OrtEnvironment implements AutoCloseable {
    private static final OrtEnvironment INSTANCE = new OrtEnvironment();

    private OrtEnvironment() {}

    public static OrtEnvironment getEnvironment() {
        return INSTANCE;
    }

    public OrtSession createSession(ByteBuffer modelBuffer, OrtSession.SessionOptions options) throws OrtException {
        if (!modelBuffer.isDirect()) throw new OrtException("the buffer is not direct");
        return new OrtSession(modelBuffer);
    }

    @Override
    public void close() {}
}
