package §{package}

import android.content.res.AssetManager
import java.io.File
import java.io.FileInputStream
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/** Models are mapped where they lie in the app, not read: that takes no memory twice, and only what is used is fetched. */
internal object §{name}Files {
    fun map(assets: AssetManager, path: String): ByteBuffer {
        val asset = try {
            assets.openFd(path)
        } catch (error: FileNotFoundException) {
            assets.open(path).close() // is not there at all: this throws, with the path
            throw IOException("$path is compressed in the app and cannot be mapped. §{uncompressed}", error)
        }
        return asset.use { found ->
            FileInputStream(found.fileDescriptor).use { file ->
                file.channel.map(FileChannel.MapMode.READ_ONLY, found.startOffset, found.declaredLength)
            }
        }
    }

    fun map(file: File): ByteBuffer =
        FileInputStream(file).use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, file.length()) }

    /** Line i is class i. */
    fun labels(stream: InputStream): List<String> {
        val text = stream.readBytes().toString(Charsets.UTF_8).removePrefix("\uFEFF")
        val lines = text.split('\n').map { it.trimEnd('\r') }.take(§{name}Model.CLASSES)
        check(lines.size == §{name}Model.CLASSES) { "${lines.size} labels for ${§{name}Model.CLASSES} classes" }
        return lines
    }
}
