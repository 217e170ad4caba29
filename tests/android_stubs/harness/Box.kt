package com.example.flowers

/** What MediaPipe is told to look at: `WIDTH HEIGHT DEGREES ...` gives a line of four shares for each three numbers. */
fun main(arguments: Array<String>) {
    for ((width, height, degrees) in arguments.map { it.toInt() }.chunked(3)) {
        println(FlowerClassifierModel.box(width, height, degrees).joinToString(" "))
    }
}
