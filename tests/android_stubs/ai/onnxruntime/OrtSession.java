package ai.onnxruntime;

import java.nio.ByteBuffer;
import java.util.Map;
import java.util.Set;
import org.tensorflow.lite.Remote;

/** onnxruntime.ai/docs/api/java/ai/onnxruntime/OrtSession.html; here another process runs the model: see `Remote`. */
public class OrtSession implements AutoCloseable {
    /** onnxruntime.ai/docs/api/java/ai/onnxruntime/OrtSession.SessionOptions.html */
    public static class SessionOptions implements AutoCloseable {
        public void setIntraOpNumThreads(int numThreads) throws OrtException {
            if (numThreads < 1) throw new OrtException("threads");
        }

        @Override
        public void close() {}
    }

    /** onnxruntime.ai/docs/api/java/ai/onnxruntime/OrtSession.Result.html */
    public static class Result implements AutoCloseable {
        private final OnnxValue value;

        Result(OnnxValue value) {
            this.value = value;
        }

        public OnnxValue get(int index) {
            return value;
        }

        @Override
        public void close() {}
    }

    private final Remote remote;

    OrtSession(ByteBuffer model) {
        remote = new Remote(model, "onnx");
    }

    public Set<String> getInputNames() {
        return Set.of("input");
    }

    public Result run(Map<String, ? extends OnnxTensor> inputs) throws OrtException {
        ByteBuffer found = remote.run(inputs.get("input").data);
        return new Result(new OnnxTensor(found, new long[] {found.remaining()}, OnnxJavaType.UNKNOWN));
    }

    @Override
    public void close() throws OrtException {
        remote.close();
    }
}
