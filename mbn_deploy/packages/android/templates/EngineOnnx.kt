package §{package}

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.ByteBuffer

/** Runs a model with ONNX Runtime, which reads `file` for as long as the engine is open. */
internal class §{name}Engine(file: ByteBuffer, input: §{name}Tensors.Input, threads: Int) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session = OrtSession.SessionOptions().use { options ->
        options.setIntraOpNumThreads(threads)
        environment.createSession(file, options)
    }
    private val name = session.inputNames.first()
    private val shape = with(input) {
        if (channelsFirst) longArrayOf(1L, channels.toLong(), height.toLong(), width.toLong())
        else longArrayOf(1L, height.toLong(), width.toLong(), channels.toLong())
    }
    private val type = when (input.type) {
        §{name}Tensors.Type.FLOAT32 -> OnnxJavaType.FLOAT
        §{name}Tensors.Type.UINT8 -> OnnxJavaType.UINT8
        §{name}Tensors.Type.INT8 -> OnnxJavaType.INT8
        §{name}Tensors.Type.INT16 -> OnnxJavaType.INT16
    }

    fun run(input: ByteBuffer, output: ByteBuffer) {
        OnnxTensor.createTensor(environment, input, shape, type).use { tensor ->
            session.run(mapOf(name to tensor)).use { result -> output.put((result.get(0) as OnnxTensor).byteBuffer) }
        }
    }

    override fun close() = session.close()
}
