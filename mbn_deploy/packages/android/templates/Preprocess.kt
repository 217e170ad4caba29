package §{package}

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round
import kotlin.math.sin

/**
 * Resizes a picture of any size to the model's pixels as mbn-deploy did when it measured the accuracy: with Pillow's
 * antialiasing filters, or as the loader of the training. `Bitmap.createScaledBitmap` does neither, which costs accuracy.
 * The pixels are equal bit for bit, except for antialiased pictures more than about twice as high as wide: there
 * Pillow 13 resizes columns before rows, which rounds differently. Nothing here needs Android.
 */
internal class §{name}Preprocess(
    val width: Int,
    val height: Int,
    val channels: Int,
    private val resize: Resize,
    private val cropFraction: Double,
    private val filter: Filter,
) {
    /** How a picture gets the model's proportions: distorted, cropped, with borders; as which loader. */
    enum class Resize(internal val library: Boolean, internal val antialias: Boolean) {
        SQUASH(false, true),
        CROP(false, true),
        LETTERBOX(false, true),
        KERAS(true, false),
        KERAS_CROP(true, false),
        KERAS_PAD(true, false),
        KERAS_NEAREST(true, false),
        TORCHVISION(true, true),
    }

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

    /** What becomes of one axis: the stretch from `start` to `end` is resized to `size` pixels, from `offset` on. */
    private class Axis(val start: Double, val end: Double, val size: Int, val offset: Int = 0) {
        fun reversed(length: Int) = Axis(length - end, length - start, size, offset)
    }

    private val nearest = filter == Filter.NEAREST || resize == Resize.KERAS_NEAREST

    /**
     * Returns pixels (height, width, channels), RGB or grey, of a picture that is upright when it is turned clockwise by
     * `rotationDegrees`. Transparent parts are laid on white, or made opaque where the loader of the training does so.
     */
    fun pixels(pictureWidth: Int, pictureHeight: Int, rotationDegrees: Int, rows: Rows): ByteArray {
        require(rotationDegrees % 90 == 0) { "rotationDegrees must be 0, 90, 180 or 270, not $rotationDegrees" }
        val quarters = rotationDegrees.mod(360) / 90
        val sideways = quarters % 2 == 1
        val (across, down) = if (sideways) plan(pictureHeight, pictureWidth) else plan(pictureWidth, pictureHeight)
        var columns = if (sideways) down else across
        var lines = if (sideways) across else down
        if (quarters == 2 || quarters == 3) columns = columns.reversed(pictureWidth)
        if (quarters == 1 || quarters == 2) lines = lines.reversed(pictureHeight)
        val small = if (resize.antialias || nearest) {
            resampled(pictureWidth, pictureHeight, columns, lines, rows)
        } else {
            bilinear(columns, lines, pictureWidth, rows)
        }
        return placed(small, columns.size, lines.size, across.offset, down.offset, quarters)
    }

    /** Returns how much smaller a picture may be decoded (`BitmapFactory.Options.inSampleSize`): by 1, 2 or 4. */
    fun sampleSize(pictureWidth: Int, pictureHeight: Int): Int {
        val (across, down) = plan(pictureWidth, pictureHeight)
        if (resize.library || nearest || min(across.size, down.size) < DECODED_IN_FULL) return 1
        val gap = min((across.end - across.start) / across.size, (down.end - down.start) / down.size)
        return if (gap >= 20) 4 else if (gap >= 10) 2 else 1
    }

    /** Returns what becomes of the axes of an upright picture: of its width, and of its height. */
    private fun plan(pictureWidth: Int, pictureHeight: Int): Pair<Axis, Axis> =
        when (resize) {
            Resize.CROP -> crop(pictureWidth, pictureHeight)
            Resize.LETTERBOX -> letterbox(pictureWidth, pictureHeight)
            Resize.KERAS_CROP -> kerasCrop(pictureWidth, pictureHeight)
            Resize.KERAS_PAD -> kerasPad(pictureWidth, pictureHeight)
            Resize.TORCHVISION -> torchvision(pictureWidth, pictureHeight)
            else -> Pair(Axis(0.0, pictureWidth.toDouble(), width), Axis(0.0, pictureHeight.toDouble(), height))
        }

    private fun crop(pictureWidth: Int, pictureHeight: Int): Pair<Axis, Axis> {
        val scale = min(pictureWidth.toDouble() / width, pictureHeight.toDouble() / height) * cropFraction
        val left = (pictureWidth - width * scale) / 2
        val top = (pictureHeight - height * scale) / 2
        return Pair(Axis(left, pictureWidth - left, width), Axis(top, pictureHeight - top, height))
    }

    private fun letterbox(pictureWidth: Int, pictureHeight: Int): Pair<Axis, Axis> {
        val scale = min(width.toDouble() / pictureWidth, height.toDouble() / pictureHeight)
        val fitted = { length: Int, target: Int ->
            val size = max(1, round(length * scale).toInt())
            Axis(0.0, length.toDouble(), size, Math.floorDiv(target - size, 2))
        }
        return Pair(fitted(pictureWidth, width), fitted(pictureHeight, height))
    }

    /** Takes the largest box of whole pixels with the model's proportions, as `smart_resize` does. */
    private fun kerasCrop(pictureWidth: Int, pictureHeight: Int): Pair<Axis, Axis> {
        val middle = { length: Int, longest: Long, size: Int ->
            val kept = min(length.toLong(), longest).toInt().coerceAtLeast(1)
            val start = (length - kept) / 2
            Axis(start.toDouble(), (start + kept).toDouble(), size)
        }
        return Pair(
            middle(pictureWidth, pictureHeight.toLong() * width / height, width),
            middle(pictureHeight, pictureWidth.toLong() * height / width, height),
        )
    }

    /** Fits the picture in as `tf.image.resize_with_pad`, whose floats are rounded down. */
    private fun kerasPad(pictureWidth: Int, pictureHeight: Int): Pair<Axis, Axis> {
        val ratio = max(pictureWidth.toFloat() / width, pictureHeight.toFloat() / height)
        val fitted = { length: Int, target: Int ->
            val size = length / ratio
            Axis(0.0, length.toDouble(), max(1, size.toInt()), max(0, ((target - size) / 2).toInt()))
        }
        return Pair(fitted(pictureWidth, width), fitted(pictureHeight, height))
    }

    /** Resizes the shorter side and cuts out the middle, as `Resize` and `CenterCrop` do. */
    private fun torchvision(pictureWidth: Int, pictureHeight: Int): Pair<Axis, Axis> {
        val shorter = max(1, Math.rint(min(width, height) / cropFraction).toInt())
        val longer = (shorter.toLong() * max(pictureWidth, pictureHeight) / min(pictureWidth, pictureHeight)).toInt()
        val cut = { length: Int, resized: Int, target: Int ->
            if (resized < target) {
                Axis(0.0, length.toDouble(), resized, (target - resized) / 2)
            } else {
                val first = Math.rint((resized - target) / 2.0)
                val scale = length.toDouble() / resized
                Axis(first * scale, (first + target) * scale, target)
            }
        }
        val upright = pictureWidth <= pictureHeight
        return Pair(
            cut(pictureWidth, if (upright) shorter else longer, width),
            cut(pictureHeight, if (upright) longer else shorter, height),
        )
    }

    private fun resampled(pictureWidth: Int, pictureHeight: Int, columns: Axis, lines: Axis, rows: Rows): ByteArray {
        val across = taps(pictureWidth, columns)
        val down = taps(pictureHeight, lines)
        val first = down.first.min()
        val last = down.first.indices.maxOf { down.first[it] + down.weights[it].size }
        val argb = IntArray(pictureWidth)
        val row = IntArray(pictureWidth * channels)
        val line = columns.size * channels
        val narrow = ByteArray((last - first) * line)
        for (y in first until last) {
            rows.read(y, argb)
            unpack(argb, row)
            val start = (y - first) * line
            for (x in 0 until columns.size) across.sum(x, start + x * channels, channels, narrow) { row[it] }
        }
        val small = ByteArray(lines.size * line)
        for (y in 0 until lines.size) {
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

    /** Samples without antialias, as `tf.image.resize`: every pixel lies between four of the picture. */
    private fun bilinear(columns: Axis, lines: Axis, pictureWidth: Int, rows: Rows): ByteArray {
        val across = Neighbours(columns)
        val down = Neighbours(lines)
        val argb = IntArray(pictureWidth)
        val row = IntArray(pictureWidth * channels)
        val line = columns.size * channels
        val sums = Array(2) { IntArray(line) }
        val small = ByteArray(lines.size * line)
        for (y in 0 until lines.size) {
            for ((at, sum) in listOf(down.lower[y], down.upper[y]).zip(sums)) {
                rows.read(at, argb)
                unpack(argb, row)
                for (x in 0 until columns.size) {
                    for (channel in 0 until channels) {
                        val left = row[across.lower[x] * channels + channel]
                        val right = row[across.upper[x] * channels + channel]
                        sum[x * channels + channel] = left * (ONE - across.weight[x]) + right * across.weight[x]
                    }
                }
            }
            val weight = down.weight[y]
            for (x in 0 until line) {
                val mixed = sums[0][x] * (ONE - weight) + sums[1][x] * weight + ONE * ONE / 2
                small[y * line + x] = (mixed shr 2 * SHORT_BITS).toByte()
            }
        }
        return small
    }

    /** For each resized pixel, the two pixels that it lies between, and the weight of the second in 1 / `ONE`. */
    private class Neighbours(axis: Axis) {
        private val start = axis.start.toInt()
        private val length = axis.end.toInt() - start
        private val size = axis.size
        private val positions = LongArray(size) { (2L * it + 1) * length - size } // in 1 / (2 * size) of a pixel
        val lower = IntArray(size) { start + positions[it].floorDiv(2L * size).toInt().coerceIn(0, length - 1) }
        val upper = IntArray(size) { start + (positions[it].floorDiv(2L * size).toInt() + 1).coerceIn(0, length - 1) }
        val weight = IntArray(size) { ((positions[it].mod(2L * size) * ONE + size) / (2L * size)).toInt() }
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

    private fun taps(length: Int, axis: Axis): Taps {
        val start = axis.start.toFloat() // Pillow's boxes are float32
        val size = axis.size
        val scale = (axis.end.toFloat() - start).toDouble() / size
        if (nearest) return picked(length, start, scale, size)
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

    private fun picked(length: Int, start: Float, scale: Double, size: Int): Taps {
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
        if (alpha == 255 || resize.library) return value
        val sum = (value * alpha + 255 * (255 - alpha)) * 128 + 0x4000
        return ((sum shr 8) + sum) shr 8 shr 7
    }

    /** Turns `small` by `quarters` of a circle and places it in the model's input. */
    private fun placed(
        small: ByteArray,
        smallWidth: Int,
        smallHeight: Int,
        left: Int,
        top: Int,
        quarters: Int,
    ): ByteArray {
        val sideways = quarters % 2 == 1
        val turnedWidth = if (sideways) smallHeight else smallWidth
        val turnedHeight = if (sideways) smallWidth else smallHeight
        if (quarters == 0 && turnedWidth == width && turnedHeight == height) return small
        val result = ByteArray(width * height * channels)
        for (y in 0 until turnedHeight) {
            for (x in 0 until turnedWidth) {
                val from = when (quarters) {
                    0 -> y * smallWidth + x
                    1 -> (smallHeight - 1 - x) * smallWidth + y
                    2 -> (smallHeight - 1 - y) * smallWidth + smallWidth - 1 - x
                    else -> x * smallWidth + smallWidth - 1 - y
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
        const val SHORT_BITS = 11 // of a weight of a neighbour: two weights and a pixel fit into 31 bits
        const val ONE = 1 shl SHORT_BITS
        const val DECODED_IN_FULL = 64 // inputs below have so few pixels that single levels matter

        fun fixed(weight: Double) = (weight * (1 shl BITS) + if (weight < 0) -0.5 else 0.5).toInt()

        fun clipped(sum: Int): Byte = (sum shr BITS).coerceIn(0, 255).toByte()
    }
}
