    /** §{megabytes} MB, §{sha256} */
    §{constant}("§{folder}/§{path}"),
