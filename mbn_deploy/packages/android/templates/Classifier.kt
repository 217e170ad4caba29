package §{package}

import android.content.Context
import android.graphics.Bitmap
import android.os.Build
import java.io.File
import java.nio.ByteBuffer

/**
 * Pictures in, labels with probabilities out. Keep one open for many pictures; it can be used from several threads,
 * which take turns. §{about}
 */
class §{name} private constructor(
    private val engine: §{name}Engine,
    model: §{name}Model,
    /** Label i is class i. */
    val labels: List<String>,
) : AutoCloseable {
    /** One class; `score` is a probability. */
    data class Prediction(val index: Int, val label: String, val score: Float)

    private val tensors = §{name}Tensors(model.input, model.output)

    /**
     * The `topK` best classes of a picture, best first.
     *
     * `rotationDegrees` says by how much the picture must be turned clockwise to be upright: 0, 90, 180 or 270, which is
     * `imageInfo.rotationDegrees` of CameraX and `rotationDegrees` of an `ExifInterface`.
     */
    @JvmOverloads
    fun classify(bitmap: Bitmap, rotationDegrees: Int = 0, topK: Int = 5): List<Prediction> {
        val scores = scores(prepare(bitmap, rotationDegrees))
        return §{name}Tensors.best(scores, topK).map { Prediction(it, labels[it], scores[it]) }
    }

    /** The picture cropped, resized and turned as the model wants it: (height, width, channels), RGB or grey. */
    @JvmOverloads
    fun prepare(bitmap: Bitmap, rotationDegrees: Int = 0): ByteArray {
        val inGraphicsMemory = Build.VERSION.SDK_INT >= 26 && bitmap.config == Bitmap.Config.HARDWARE
        val readable = if (inGraphicsMemory) checkNotNull(bitmap.copy(Bitmap.Config.ARGB_8888, false)) else bitmap
        return §{name}Model.PREPROCESS.pixels(readable.width, readable.height, rotationDegrees) { y, row ->
            readable.getPixels(row, 0, row.size, 0, y, row.size, 1)
        }
    }

    /** One score a class, of pixels as `prepare` gives them. */
    @Synchronized
    fun scores(pixels: ByteArray): FloatArray {
        engine.run(tensors.encode(pixels), tensors.result())
        return tensors.scores()
    }

    /** Frees the interpreter. The classifier cannot be used afterwards. */
    @Synchronized
    override fun close() = engine.close()

    companion object {
        /** Opens a model of the app's assets; throws an `IOException` that says what to do if it cannot be mapped. */
        @JvmStatic
        @JvmOverloads
        fun open(
            context: Context,
            model: §{name}Model = §{name}Model.DEFAULT,
            threads: Int = usualThreads(),
        ): §{name} {
            val labels = context.assets.open(§{name}Model.LABELS).use { §{name}Files.labels(it) }
            return opened(§{name}Files.map(context.assets, model.path), model, labels, threads)
        }

        /** Opens a model that lies in a folder, as those of packs do that are delivered after the installation. */
        @JvmStatic
        @JvmOverloads
        fun open(
            folder: File,
            model: §{name}Model = §{name}Model.DEFAULT,
            threads: Int = usualThreads(),
        ): §{name} {
            val labels = File(folder, §{name}Model.LABELS).inputStream().use { §{name}Files.labels(it) }
            return opened(§{name}Files.map(File(folder, model.path)), model, labels, threads)
        }

        /** For `BitmapFactory.Options.inSampleSize`: by how much a photograph of this size can be decoded smaller. */
        @JvmStatic
        fun sampleSize(width: Int, height: Int): Int = §{name}Model.PREPROCESS.sampleSize(width, height)

        private fun usualThreads() = Runtime.getRuntime().availableProcessors().coerceIn(1, 4)

        private fun opened(file: ByteBuffer, model: §{name}Model, labels: List<String>, threads: Int) =
            §{name}(§{name}Engine(file, model.input, threads), model, labels)
    }
}
