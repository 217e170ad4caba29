package com.example.flowers

import android.app.Instrumentation
import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import androidx.test.platform.app.InstrumentationRegistry
import com.example.binary.BinaryClassifier
import com.example.binary.BinaryClassifierGoldenTest
import com.example.binary.BinaryClassifierJavaTest
import com.example.embedding.EmbeddingClassifier
import com.example.embedding.EmbeddingClassifierGoldenTest
import com.example.embedding.EmbeddingClassifierJavaTest
import com.example.labels.LabelsClassifier
import com.example.labels.LabelsClassifierGoldenTest
import com.example.labels.LabelsClassifierJavaTest
import com.example.values.ValuesClassifier
import com.example.values.ValuesClassifierGoldenTest
import com.example.values.ValuesClassifierJavaTest
import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File

/** Runs one generated class for each meaning of the answers: `COMMAND ASSETS TEST_ASSETS IN OUT`. */
fun main(arguments: Array<String>) {
    val (command, assets, testAssets, source, target) = arguments
    val context = Folder(File(assets))
    InstrumentationRegistry.instrumentation = Instrumentation(Folder(File(testAssets)), context)
    DataInputStream(File(source).inputStream().buffered()).use { data ->
        DataOutputStream(File(target).outputStream().buffered()).use { out ->
            when (command) {
                "tests" -> tests()
                "answer" -> answer(context, picture(data), out)
                else -> error(command)
            }
        }
    }
}

private fun tests() {
    LabelsClassifierGoldenTest().everyModelAnswersAsItDidOnTheWorkstation()
    LabelsClassifierJavaTest().aPictureOfAnySize()
    BinaryClassifierGoldenTest().everyModelAnswersAsItDidOnTheWorkstation()
    BinaryClassifierJavaTest().aPictureOfAnySize()
    ValuesClassifierGoldenTest().everyModelAnswersAsItDidOnTheWorkstation()
    ValuesClassifierJavaTest().aPictureOfAnySize()
    EmbeddingClassifierGoldenTest().everyModelAnswersAsItDidOnTheWorkstation()
    EmbeddingClassifierJavaTest().aPictureOfAnySize()
}

private fun answer(context: Context, picture: Bitmap, out: DataOutputStream) {
    LabelsClassifier.open(context).use { labels ->
        out.writeUTF(labels.classify(picture, 90).joinToString("\n") { "${it.label}\t${it.score}" })
        out.writeUTF(labels.classify(picture, 90, 0f).joinToString("\n") { "${it.label}\t${it.score}" })
    }
    BinaryClassifier.open(context).use { binary ->
        out.writeUTF(binary.classify(picture, 90).joinToString("\n") { "${it.label}\t${it.score}" })
    }
    ValuesClassifier.open(context).use { values ->
        out.writeUTF(values.predict(picture, 90).joinToString("\n") { "${it.label}\t${it.value}" })
    }
    EmbeddingClassifier.open(context).use { embedding ->
        out.writeUTF(embedding.embed(picture, 90).withIndex().joinToString("\n") { "${it.index}\t${it.value}" })
    }
}

private class Folder(private val folder: File) : Context() {
    override fun getAssets() = AssetManager(folder)
}

private fun picture(data: DataInputStream): Bitmap {
    val width = data.readInt()
    val height = data.readInt()
    return Bitmap.createBitmap(IntArray(width * height) { data.readInt() }, width, height, Bitmap.Config.ARGB_8888)
}
