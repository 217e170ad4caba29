package ai.onnxruntime;

import java.nio.ByteBuffer;

/** onnxruntime.ai/docs/api/java/ai/onnxruntime/OnnxTensor.html */
public class OnnxTensor implements OnnxValue {
    final ByteBuffer data;
    final long[] shape;
    final OnnxJavaType type;

    OnnxTensor(ByteBuffer data, long[] shape, OnnxJavaType type) {
        this.data = data;
        this.shape = shape;
        this.type = type;
    }

    public static OnnxTensor createTensor(OrtEnvironment env, ByteBuffer data, long[] shape, OnnxJavaType type)
            throws OrtException {
        long bytes = type == OnnxJavaType.FLOAT ? 4 : 1;
        for (long size : shape) bytes *= size;
        if (bytes != data.remaining()) throw new OrtException("the shape says " + bytes + " bytes");
        return new OnnxTensor(data, shape, type);
    }

    public ByteBuffer getByteBuffer() {
        return data;
    }

    @Override
    public void close() {}
}
