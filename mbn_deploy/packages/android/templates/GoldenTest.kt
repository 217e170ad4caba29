package §{package}

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import java.io.DataInputStream
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

/** Replays the bundle's golden vectors: does this phone compute what the workstation computed? */
@RunWith(AndroidJUnit4::class)
class §{name}GoldenTest {
    @Test
    fun everyModelAnswersAsItDidOnTheWorkstation() {
        val instrumentation = InstrumentationRegistry.getInstrumentation()
        for (model in §{name}Model.values()) {
            val golden = instrumentation.context.assets.open("${model.path}.golden").use { Golden.read(DataInputStream(it)) }
            §{name}.open(instrumentation.§{context}, model).use { classifier ->
                for ((pixels, expected) in golden.vectors) {
                    val scores = classifier.scores(pixels)
                    assertEquals(expected.size, scores.size)
                    val off = expected.indices.maxOf { abs(expected[it] - scores[it]) }
                    assertTrue("$model is off by $off; ${golden.tolerance} is allowed", off <= golden.tolerance)
                }
            }
        }
    }

    private class Golden(val tolerance: Float, val vectors: List<Pair<ByteArray, FloatArray>>) {
        companion object {
            /** Reads number of pictures, bytes of a picture, classes, tolerance; then pixels and scores of each picture. */
            fun read(data: DataInputStream): Golden {
                val count = data.readInt()
                val bytes = data.readInt()
                val classes = data.readInt()
                val tolerance = data.readFloat()
                val vectors = List(count) {
                    ByteArray(bytes).also(data::readFully) to FloatArray(classes) { data.readFloat() }
                }
                return Golden(tolerance, vectors)
            }
        }
    }
}
