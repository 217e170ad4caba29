package §{package}

import android.content.res.AssetManager
import java.io.File
import java.io.FileInputStream
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/** Maps model files into memory where they lie in the app: a copy would take memory, and only pages in use are loaded. */
internal object §{name}Files {
    fun map(assets: AssetManager, path: String): ByteBuffer {
        val asset = try {
            assets.openFd(path)
        } catch (error: FileNotFoundException) {
            assets.open(path).close() // throws with the path if there is no such asset
            throw IOException("$path is compressed in the app and cannot be mapped. §{uncompressed}", error)
        }
        return asset.use { descriptor ->
            FileInputStream(descriptor.fileDescriptor).use { file ->
                file.channel.map(FileChannel.MapMode.READ_ONLY, descriptor.startOffset, descriptor.declaredLength)
            }
        }
    }

    fun map(file: File): ByteBuffer =
        FileInputStream(file).use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, file.length()) }

    /** Reads labels: line i is the name of class i. */
    fun labels(stream: InputStream): List<String> {
        val text = stream.readBytes().toString(Charsets.UTF_8).removePrefix("\uFEFF")
        val lines = text.split('\n').map { it.trimEnd('\r') }.take(§{name}Model.NAMES)
        check(lines.size == §{name}Model.NAMES) { "${lines.size} labels instead of ${§{name}Model.NAMES}" }
        return lines
    }
}
