package §{package}

import android.content.Context
import android.graphics.Bitmap
import android.os.Build
import java.io.File
import java.nio.ByteBuffer

/**
 * §{purpose} Opening takes longer than many inferences, so keep a classifier open; several threads can share it and take
 * turns. §{about}
 */
class §{name} private constructor(
    private val engine: §{name}Engine,
    model: §{name}Model,
    /** §{names} */
    val labels: List<String>,
) : AutoCloseable {
§{result}    private val tensors = §{name}Tensors(model.input, model.output)

§{method}

    /** Crops, resizes and turns a picture into the model's pixels: (height, width, channels), RGB or grey. */
    @JvmOverloads
    fun prepare(bitmap: Bitmap, rotationDegrees: Int = 0): ByteArray {
        val inGraphicsMemory = Build.VERSION.SDK_INT >= 26 && bitmap.config == Bitmap.Config.HARDWARE
        val readable = if (inGraphicsMemory) checkNotNull(bitmap.copy(Bitmap.Config.ARGB_8888, false)) else bitmap
        return §{name}Model.PREPROCESS.pixels(readable.width, readable.height, rotationDegrees) { y, row ->
            readable.getPixels(row, 0, row.size, 0, y, row.size, 1)
        }
    }

    private fun answers(bitmap: Bitmap, rotationDegrees: Int) = scores(prepare(bitmap, rotationDegrees))

    /** Returns §{numbers} for pixels that `prepare` returned. */
    @Synchronized
    fun scores(pixels: ByteArray): FloatArray {
        engine.run(tensors.encode(pixels), tensors.result())
        return tensors.scores()
    }

    /** Frees the interpreter; the classifier cannot be used afterwards. */
    @Synchronized
    override fun close() = engine.close()

    companion object {
        /** Opens a model in the app's assets; throws an `IOException` that says what to do if it cannot be mapped. */
        @JvmStatic
        @JvmOverloads
        fun open(
            context: Context,
            model: §{name}Model = §{name}Model.DEFAULT,
            threads: Int = defaultThreads(),
        ): §{name} {
            val labels = context.assets.open(§{name}Model.LABELS).use { §{name}Files.labels(it) }
            return create(§{name}Files.map(context.assets, model.path), model, labels, threads)
        }

        /** Opens a model in a folder, such as that of a pack that is delivered after the installation. */
        @JvmStatic
        @JvmOverloads
        fun open(
            folder: File,
            model: §{name}Model = §{name}Model.DEFAULT,
            threads: Int = defaultThreads(),
        ): §{name} {
            val labels = File(folder, §{name}Model.LABELS).inputStream().use { §{name}Files.labels(it) }
            return create(§{name}Files.map(File(folder, model.path)), model, labels, threads)
        }

        /** Returns the `BitmapFactory.Options.inSampleSize` for photographs of this size: larger ones cost accuracy. */
        @JvmStatic
        fun sampleSize(width: Int, height: Int): Int = §{name}Model.PREPROCESS.sampleSize(width, height)

        private fun defaultThreads() = Runtime.getRuntime().availableProcessors().coerceIn(1, 4)

        private fun create(file: ByteBuffer, model: §{name}Model, labels: List<String>, threads: Int) =
            §{name}(§{name}Engine(file, model.input, threads), model, labels)
    }
}
