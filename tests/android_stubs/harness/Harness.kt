package com.example.flowers

import android.app.Instrumentation
import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import androidx.test.platform.app.InstrumentationRegistry
import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File
import java.io.IOException

/** Runs the generated code outside of Android: `COMMAND ASSETS TEST_ASSETS IN OUT`. */
fun main(arguments: Array<String>) {
    val (command, assets, testAssets, source, target) = arguments
    val context = Folder(File(assets))
    InstrumentationRegistry.instrumentation = Instrumentation(Folder(File(testAssets)), context)
    DataInputStream(File(source).inputStream().buffered()).use { data ->
        DataOutputStream(File(target).outputStream().buffered()).use { out ->
            when (command) {
                "pixels" -> repeat(data.readInt()) { pixels(data, out) }
                "tensors" -> tensors(data, out)
                "golden" -> FlowerClassifierGoldenTest().everyModelAnswersAsItDidOnTheWorkstation()
                "java" -> FlowerClassifierJavaTest().aPictureOfAnySize()
                "classify" -> classify(context, data, out)
                "open" -> out.writeUTF(opened(context))
                "folder" -> FlowerClassifier.open(File(assets)).use { out.writeUTF(it.labels.toString()) }
                else -> error(command)
            }
        }
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

private fun pixels(data: DataInputStream, out: DataOutputStream) {
    val preprocess = FlowerClassifierPreprocess(
        data.readInt(),
        data.readInt(),
        data.readInt(),
        FlowerClassifierPreprocess.Resize.valueOf(data.readUTF()),
        data.readDouble(),
        FlowerClassifierPreprocess.Filter.valueOf(data.readUTF()),
    )
    val rotation = data.readInt()
    val bitmap = picture(data)
    out.writeInt(preprocess.sampleSize(bitmap.width, bitmap.height))
    out.write(
        preprocess.pixels(bitmap.width, bitmap.height, rotation) { y, row ->
            bitmap.getPixels(row, 0, row.size, 0, y, row.size, 1)
        },
    )
}

/** The input made from one picture's pixels and the scores read from one output, for each model. */
private fun tensors(data: DataInputStream, out: DataOutputStream) {
    for (model in FlowerClassifierModel.values()) {
        val tensors = FlowerClassifierTensors(model.input, model.output)
        val input = tensors.encode(data.readNBytes(data.readInt()))
        out.write(ByteArray(input.remaining()).also { input.get(it) })
        tensors.result().put(data.readNBytes(data.readInt()))
        for (score in tensors.scores()) out.writeFloat(score)
    }
}

private fun classify(context: Context, data: DataInputStream, out: DataOutputStream) {
    FlowerClassifier.open(context).use { classifier ->
        repeat(data.readInt()) {
            val rotation = data.readInt()
            for (found in classifier.classify(picture(data), rotation, 3)) {
                out.writeInt(found.index)
                out.writeUTF(found.label)
                out.writeFloat(found.score)
            }
        }
    }
}

private fun opened(context: Context): String =
    try {
        FlowerClassifier.open(context).use { "opened" }
    } catch (error: IOException) {
        error.message ?: ""
    }
