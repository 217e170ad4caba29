package §{package}

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.exp
import kotlin.math.round

/** Converts pixels to the model's input, and its output to answers: real = scale * (integer - zeroPoint). */
internal class §{name}Tensors(private val input: Input, private val output: Output) {
    enum class Type(val bytes: Int) { FLOAT32(4), UINT8(1), INT8(1), INT16(2) }

    /** A model's input: real = (pixel - mean) / std. A scale of 0 means that integers are the pixels themselves. */
    class Input(
        val width: Int,
        val height: Int,
        val type: Type,
        val mean: FloatArray,
        val std: FloatArray,
        val scale: Double,
        val zeroPoint: Int,
        val blueFirst: Boolean,
        val channelsFirst: Boolean,
    ) {
        val channels get() = mean.size
        val bytes get() = width * height * channels * type.bytes
    }

    /** What turns a model's outputs into its answers. */
    enum class Function { NONE, SOFTMAX, SIGMOID }

    /** A model's output: `count` numbers that become answers by `function`. A scale of 0 means that there is none. */
    class Output(val count: Int, val type: Type, val scale: Double, val zeroPoint: Int, val function: Function)

    private val tables = Array(input.channels) { channel -> FloatArray(256) { encoded(it, channel) } }
    private val inputBuffer = buffer(input.bytes)
    private val outputBuffer = buffer(output.count * output.type.bytes)

    /** Returns pixels (height, width, channels), RGB or grey, as the model's input, positioned at its first byte. */
    fun encode(pixels: ByteArray): ByteBuffer {
        val count = input.width * input.height
        require(pixels.size == count * input.channels) {
            "expected ${input.height} x ${input.width} x ${input.channels} pixels, not ${pixels.size} bytes"
        }
        for (channel in 0 until input.channels) {
            val table = tables[channel]
            val source = if (input.blueFirst) input.channels - 1 - channel else channel
            for (at in 0 until count) {
                val value = table[pixels[at * input.channels + source].toInt() and 255]
                val target = if (input.channelsFirst) channel * count + at else at * input.channels + channel
                if (input.type == Type.FLOAT32) {
                    inputBuffer.putFloat(target * 4, value)
                } else {
                    inputBuffer.put(target, value.toInt().toByte())
                }
            }
        }
        inputBuffer.rewind()
        return inputBuffer
    }

    /** Returns the buffer for the model's output, positioned at its first byte. */
    fun result(): ByteBuffer {
        outputBuffer.rewind()
        return outputBuffer
    }

    /** Returns the answers from the buffer of `result`. */
    fun scores(): FloatArray {
        val real = FloatArray(output.count) { decoded(it) }
        return when (output.function) {
            Function.NONE -> real
            Function.SIGMOID -> FloatArray(real.size) { (1 / (1 + exp(-real[it].toDouble()))).toFloat() }
            Function.SOFTMAX -> softmax(real)
        }
    }

    private fun softmax(real: FloatArray): FloatArray {
        val largest = real.max().toDouble()
        val powers = DoubleArray(real.size) { exp(real[it] - largest) }
        val total = powers.sum()
        return FloatArray(real.size) { (powers[it] / total).toFloat() }
    }

    private fun decoded(at: Int): Float {
        val integer = when (output.type) {
            Type.FLOAT32 -> return outputBuffer.getFloat(at * 4)
            Type.UINT8 -> outputBuffer.get(at).toInt() and 255
            Type.INT8 -> outputBuffer.get(at).toInt()
            Type.INT16 -> outputBuffer.getShort(at * 2).toInt()
        }
        return if (output.scale == 0.0) integer.toFloat() else ((integer - output.zeroPoint) * output.scale).toFloat()
    }

    /** Returns a pixel's value in the input; small integers are exact in 32-bit floats. */
    private fun encoded(pixel: Int, channel: Int): Float {
        val lowest = if (input.type == Type.INT8) -128 else 0
        if (input.type != Type.FLOAT32 && input.scale == 0.0) return (pixel + lowest).toFloat()
        val real = (pixel - input.mean[channel]) / input.std[channel]
        if (input.type == Type.FLOAT32) return real
        val integer = round(real / input.scale) + input.zeroPoint
        return integer.coerceIn(lowest.toDouble(), lowest + 255.0).toFloat()
    }

    companion object {
        private fun buffer(bytes: Int) = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

        /** Returns the `count` classes with the highest scores, best first; among equal scores the lower class is first. */
        fun best(scores: FloatArray, count: Int): List<Int> {
            require(count > 0) { "topK must be at least 1" }
            check(scores.none { it.isNaN() }) { "the model returned NaN: its file is damaged" }
            return scores.indices.sortedByDescending { scores[it] }.take(count)
        }
    }
}
