package §{package}

import java.nio.ByteBuffer
import org.tensorflow.lite.Interpreter

/** Runs a model with LiteRT, which reads `file` for as long as the engine is open. */
internal class §{name}Engine(file: ByteBuffer, input: §{name}Tensors.Input, threads: Int) : AutoCloseable {
    private val interpreter = Interpreter(file, Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))

    init {
        val bytes = interpreter.getInputTensor(0).numBytes()
        check(bytes == input.bytes) { "the model takes $bytes bytes instead of ${input.bytes}: this class was generated for another model" }
    }

    fun run(input: ByteBuffer, output: ByteBuffer) = interpreter.run(input, output)

    override fun close() = interpreter.close()
}
