package §{package}

import android.content.Context
import android.graphics.Bitmap
import android.graphics.RectF
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.ImageProcessingOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier.ImageClassifierOptions
import java.io.File
import java.nio.ByteBuffer

/** §{purpose} It runs MediaPipe Tasks. §{about} */
class §{name} private constructor(
    private val tasks: ImageClassifier,
    /** §{names} */
    val labels: List<String>,
) : AutoCloseable {
§{result}§{method}

    private fun answers(bitmap: Bitmap, rotationDegrees: Int): FloatArray {
        val options = ImageProcessingOptions.builder().setRotationDegrees(rotationDegrees)
        val box = §{name}Model.box(bitmap.width, bitmap.height, rotationDegrees)
        return scores(bitmap, options.setRegionOfInterest(RectF(box[0], box[1], box[2], box[3])).build())
    }

    private fun best(scores: FloatArray, count: Int) = scores.indices.sortedByDescending { scores[it] }.take(count)

    /** Returns §{numbers} for pixels of the model's size: (height, width, 3), RGB. */
    fun scores(pixels: ByteArray): FloatArray {
        val argb = IntArray(§{name}Model.WIDTH * §{name}Model.HEIGHT) { at ->
            (0..2).fold(0xFF) { color, i -> (color shl 8) or (pixels[3 * at + i].toInt() and 255) }
        }
        val config = Bitmap.Config.ARGB_8888
        val bitmap = Bitmap.createBitmap(argb, §{name}Model.WIDTH, §{name}Model.HEIGHT, config)
        return scores(bitmap, ImageProcessingOptions.builder().build())
    }

    /** Frees the interpreter; the classifier cannot be used afterwards. */
    override fun close() = tasks.close()

    private fun scores(bitmap: Bitmap, options: ImageProcessingOptions): FloatArray {
        val result = tasks.classify(BitmapImageBuilder(bitmap).build(), options)
        val scores = FloatArray(§{name}Model.CLASSES)
        for (category in result.classificationResult().classifications().first().categories()) {
            scores[category.index()] = category.score()
        }
        return scores
    }

    companion object {
        /** Opens a model in the app's assets; throws an `IOException` that says what to do if it cannot be mapped. */
        @JvmStatic
        @JvmOverloads
        fun open(context: Context, model: §{name}Model = §{name}Model.DEFAULT): §{name} {
            val labels = context.assets.open(§{name}Model.LABELS).use { §{name}Files.labels(it) }
            return create(context, §{name}Files.map(context.assets, model.path), labels)
        }

        /** Opens a model in a folder, such as that of a pack that is delivered after the installation. */
        @JvmStatic
        @JvmOverloads
        fun open(context: Context, folder: File, model: §{name}Model = §{name}Model.DEFAULT): §{name} {
            val labels = File(folder, §{name}Model.LABELS).inputStream().use { §{name}Files.labels(it) }
            return create(context, §{name}Files.map(File(folder, model.path)), labels)
        }

        private fun create(context: Context, file: ByteBuffer, labels: List<String>): §{name} {
            // MediaPipe copies the file, so it need not stay mapped.
            val base = BaseOptions.builder().setModelAssetBuffer(file).build()
            val options = ImageClassifierOptions.builder().setBaseOptions(base).build()
            return §{name}(ImageClassifier.createFromOptions(context, options), labels)
        }
    }
}
