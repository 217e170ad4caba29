package §{package}

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round
import kotlin.math.sin

/**
 * Resizes a picture of any size to the model's pixels as Pillow does, with which mbn-deploy measured the accuracy. Pillow
 * antialiases; `Bitmap.createScaledBitmap` does not, which costs accuracy. The pixels are equal bit for bit, except for
 * pictures more than about twice as high as wide: there Pillow 13 resizes columns before rows, which rounds differently.
 * Nothing here needs Android.
 */
internal class §{name}Preprocess(
    val width: Int,
    val height: Int,
    val channels: Int,
    private val resize: Resize,
    private val cropFraction: Double,
    private val filter: Filter,
) {
    /** How a picture gets the model's proportions: distorted, cropped, or with black borders. */
    enum class Resize { SQUASH, CROP, LETTERBOX }

    /** A resampling filter; `reach` is its radius, in pixels of the smaller picture. */
    enum class Filter(val reach: Double) {
        NEAREST(0.0),
        BILINEAR(1.0),
        BICUBIC(2.0),
        LANCZOS(3.0),
        ;

        fun weight(offset: Double): Double {
            val x = abs(offset)
            return when {
                x >= reach -> 0.0
                this == LANCZOS -> sinc(x) * sinc(x / 3)
                this == BILINEAR -> 1 - x
                x < 1 -> (1.5 * x - 2.5) * x * x + 1
                else -> (((x - 5) * x + 8) * x - 4) * -0.5
            }
        }

        private fun sinc(x: Double) = if (x == 0.0) 1.0 else sin(x * PI) / (x * PI)
    }

    /** Reads row `y` of a picture: 0xAARRGGBB, not premultiplied, as `Bitmap.getPixels` returns them. */
    fun interface Rows {
        fun read(y: Int, row: IntArray)
    }

    /** The box of a picture that is resized to `width` x `height` pixels, before it is turned upright. */
    class Plan(val left: Float, val top: Float, val right: Float, val bottom: Float, val width: Int, val height: Int)

    /**
     * Returns pixels (height, width, channels), RGB or grey, of a picture that is upright when it is turned clockwise by
     * `rotationDegrees`. Transparent parts are laid on white.
     */
    fun pixels(pictureWidth: Int, pictureHeight: Int, rotationDegrees: Int, rows: Rows): ByteArray {
        val plan = plan(pictureWidth, pictureHeight, rotationDegrees)
        val small = resampled(pictureWidth, pictureHeight, plan, rows)
        return placed(small, plan, rotationDegrees.mod(360) / 90)
    }

    /** Returns how much smaller a picture may be decoded (`BitmapFactory.Options.inSampleSize`): by 1, 2, 4 or 8. */
    fun sampleSize(pictureWidth: Int, pictureHeight: Int): Int {
        val plan = plan(pictureWidth, pictureHeight, 0)
        if (filter == Filter.NEAREST) return 1
        val gap = min((plan.right - plan.left) / plan.width, (plan.bottom - plan.top) / plan.height)
        return if (gap >= 16) 8 else if (gap >= 8) 4 else if (gap >= 4) 2 else 1
    }

    fun plan(pictureWidth: Int, pictureHeight: Int, rotationDegrees: Int): Plan {
        require(rotationDegrees % 90 == 0) { "rotationDegrees must be 0, 90, 180 or 270, not $rotationDegrees" }
        val sideways = rotationDegrees % 180 != 0
        val targetWidth = if (sideways) height else width
        val targetHeight = if (sideways) width else height
        val scaleX = pictureWidth.toDouble() / targetWidth
        val scaleY = pictureHeight.toDouble() / targetHeight
        if (resize == Resize.CROP) {
            val scale = min(scaleX, scaleY) * cropFraction
            val left = (pictureWidth - targetWidth * scale) / 2
            val top = (pictureHeight - targetHeight * scale) / 2
            val right = (pictureWidth - left).toFloat()
            return Plan(left.toFloat(), top.toFloat(), right, (pictureHeight - top).toFloat(), targetWidth, targetHeight)
        }
        var innerWidth = targetWidth
        var innerHeight = targetHeight
        if (resize == Resize.LETTERBOX) {
            val scale = min(targetWidth.toDouble() / pictureWidth, targetHeight.toDouble() / pictureHeight)
            innerWidth = max(1, round(pictureWidth * scale).toInt())
            innerHeight = max(1, round(pictureHeight * scale).toInt())
        }
        return Plan(0f, 0f, pictureWidth.toFloat(), pictureHeight.toFloat(), innerWidth, innerHeight)
    }

    private fun resampled(pictureWidth: Int, pictureHeight: Int, plan: Plan, rows: Rows): ByteArray {
        val across = taps(pictureWidth, plan.left, plan.right, plan.width)
        val down = taps(pictureHeight, plan.top, plan.bottom, plan.height)
        val first = down.first.min()
        val last = down.first.indices.maxOf { down.first[it] + down.weights[it].size }
        val argb = IntArray(pictureWidth)
        val row = IntArray(pictureWidth * channels)
        val narrow = ByteArray((last - first) * plan.width * channels)
        for (y in first until last) {
            rows.read(y, argb)
            unpack(argb, row)
            val start = (y - first) * plan.width * channels
            for (x in 0 until plan.width) across.sum(x, start + x * channels, channels, narrow) { row[it] }
        }
        val line = plan.width * channels
        val small = ByteArray(plan.height * line)
        for (y in 0 until plan.height) {
            val weights = down.weights[y]
            val offset = (down.first[y] - first) * line
            for (x in 0 until line) {
                var sum = HALF
                for (i in weights.indices) sum += weights[i] * (narrow[offset + i * line + x].toInt() and 255)
                small[y * line + x] = clipped(sum)
            }
        }
        return small
    }

    /** For each resized pixel, the first pixel that it is computed from, and the weights of that and the following ones. */
    private class Taps(val first: IntArray, val weights: Array<IntArray>) {
        inline fun sum(at: Int, target: Int, channels: Int, into: ByteArray, value: (Int) -> Int) {
            for (channel in 0 until channels) {
                var sum = HALF
                var from = first[at] * channels + channel
                for (weight in weights[at]) {
                    sum += weight * value(from)
                    from += channels
                }
                into[target + channel] = clipped(sum)
            }
        }
    }

    private fun taps(length: Int, start: Float, end: Float, size: Int): Taps {
        val scale = (end - start).toDouble() / size
        if (filter == Filter.NEAREST) return nearest(length, start, scale, size)
        val stretch = max(scale, 1.0)
        val reach = filter.reach * stretch
        val first = IntArray(size)
        val weights = Array(size) { at ->
            val center = start + (at + 0.5) * scale
            first[at] = max(0, (center - reach + 0.5).toInt())
            val count = min(length, (center + reach + 0.5).toInt()) - first[at]
            val shares = DoubleArray(count) { filter.weight((it + first[at] - center + 0.5) * (1 / stretch)) }
            var total = 0.0
            for (share in shares) total += share
            IntArray(count) { fixed(if (total == 0.0) shares[it] else shares[it] / total) }
        }
        return Taps(first, weights)
    }

    private fun nearest(length: Int, start: Float, scale: Double, size: Int): Taps {
        var at = start + scale * 0.5
        val first = IntArray(size)
        for (i in 0 until size) {
            first[i] = min(length - 1, at.toInt())
            at += scale
        }
        return Taps(first, Array(size) { intArrayOf(1 shl BITS) })
    }

    private fun unpack(argb: IntArray, row: IntArray) {
        for (x in argb.indices) {
            val alpha = argb[x] ushr 24
            val red = onWhite(argb[x] ushr 16 and 255, alpha)
            val green = onWhite(argb[x] ushr 8 and 255, alpha)
            val blue = onWhite(argb[x] and 255, alpha)
            if (channels == 1) {
                row[x] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) shr 16 // ITU-R 601
            } else {
                row[3 * x] = red
                row[3 * x + 1] = green
                row[3 * x + 2] = blue
            }
        }
    }

    private fun onWhite(value: Int, alpha: Int): Int {
        if (alpha == 255) return value
        val sum = (value * alpha + 255 * (255 - alpha)) * 128 + 0x4000
        return ((sum shr 8) + sum) shr 8 shr 7
    }

    /** Turns `small` by `quarters` of a circle and centres it in the model's input. */
    private fun placed(small: ByteArray, plan: Plan, quarters: Int): ByteArray {
        val sideways = quarters % 2 == 1
        val turnedWidth = if (sideways) plan.height else plan.width
        val turnedHeight = if (sideways) plan.width else plan.height
        if (quarters == 0 && turnedWidth == width && turnedHeight == height) return small
        val left = (width - turnedWidth) / 2
        val top = (height - turnedHeight) / 2
        val result = ByteArray(width * height * channels)
        for (y in 0 until turnedHeight) {
            for (x in 0 until turnedWidth) {
                val from = when (quarters) {
                    0 -> y * plan.width + x
                    1 -> (plan.height - 1 - x) * plan.width + y
                    2 -> (plan.height - 1 - y) * plan.width + plan.width - 1 - x
                    else -> x * plan.width + plan.width - 1 - y
                }
                val to = (top + y) * width + left + x
                for (channel in 0 until channels) result[to * channels + channel] = small[from * channels + channel]
            }
        }
        return result
    }

    private companion object {
        const val BITS = 22 // of a weight's fraction: with 8 bits of a pixel and 2 to spare, sums fit into 32 bits
        const val HALF = 1 shl (BITS - 1)

        fun fixed(weight: Double) = (weight * (1 shl BITS) + if (weight < 0) -0.5 else 0.5).toInt()

        fun clipped(sum: Int): Byte = (sum shr BITS).coerceIn(0, 255).toByte()
    }
}
