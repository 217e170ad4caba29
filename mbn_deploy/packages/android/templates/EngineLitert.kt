package §{package}

import java.nio.ByteBuffer
import org.tensorflow.lite.Interpreter

/** LiteRT. `file` must stay the model for as long as this is open. */
internal class §{name}Engine(file: ByteBuffer, input: §{name}Tensors.Input, threads: Int) : AutoCloseable {
    private val interpreter = Interpreter(file, Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))

    init {
        val bytes = interpreter.getInputTensor(0).numBytes()
        check(bytes == input.bytes) { "the model takes $bytes bytes, not ${input.bytes}: it is another one" }
    }

    fun run(input: ByteBuffer, output: ByteBuffer) = interpreter.run(input, output)

    override fun close() = interpreter.close()
}
