# Debian packages by `cpack` in the build folder: libdsrt0, libdsrt-dev, dsrt, and libdsrt-gloo, libdsrt-mpi and libdsrt-cuda
# where the plug-ins are built. The release preset strips nothing by itself; cpack does. tests/packages/debs.sh builds, checks, installs and removes them.
find_program(GZIP gzip REQUIRED)
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME dsrt)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The libdsrt developers <libdsrt@example.org>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_COMPONENTS_ALL library development)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

# package(COMPONENT NAME SECTION SUMMARY DESCRIPTION): one Debian package, with the two files of documentation that each must have.
function(package component name section summary description)
  string(TOUPPER ${component} key)
  set(CPACK_DEBIAN_${key}_PACKAGE_NAME ${name} PARENT_SCOPE)
  set(CPACK_DEBIAN_${key}_PACKAGE_SECTION ${section} PARENT_SCOPE)
  set(CPACK_COMPONENT_${key}_DESCRIPTION "${summary}\n${description}" PARENT_SCOPE)
  set(doc ${CMAKE_CURRENT_BINARY_DIR}/packages/${name})
  configure_file(${PROJECT_SOURCE_DIR}/pkgconfig/copyright ${doc}/copyright COPYONLY)
  configure_file(${PROJECT_SOURCE_DIR}/pkgconfig/changelog.in ${doc}/changelog @ONLY)
  execute_process(COMMAND ${GZIP} -9nf ${doc}/changelog)
  install(FILES ${doc}/copyright ${doc}/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} COMPONENT ${component} EXCLUDE_FROM_ALL)
endfunction()

package(library libdsrt0 libs "training of large language models behind a C ABI"
        "libdsrt trains, evaluates and runs transformer language models from any\nlanguage that can call C: DeepSpeed's configuration and semantics, Hugging\nFace folders in and out, mixed precision and parallel ranks.")
package(development libdsrt-dev libdevel "headers of libdsrt"
        "What is needed to build programs that use libdsrt: C and C++ headers,\npkg-config file and CMake package.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libdsrt0 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)  # what packages that link to it depend on
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/triggers)
if(TARGET dsrt_command)
  list(APPEND CPACK_COMPONENTS_ALL command)
  package(command dsrt utils "command for training and running language models"
          "dsrt plans, checks, trains, tokenizes, generates and exports, from one\nconfiguration file.")
  set(CPACK_DEBIAN_COMMAND_PACKAGE_SHLIBDEPS OFF)  # dpkg-shlibdeps can't tell whose a library is that is not installed yet
  set(CPACK_DEBIAN_COMMAND_PACKAGE_DEPENDS "libdsrt0 (= ${PROJECT_VERSION}), libc6, libgcc-s1, libstdc++6")
endif()
foreach(plugin gloo mpi)
  if(TARGET dsrt_${plugin})
    list(APPEND CPACK_COMPONENTS_ALL ${plugin})
    package(${plugin} libdsrt-${plugin} libs "jobs of several processes for libdsrt, by ${plugin}"
            "The plug-in with which ranks of libdsrt in several processes find each other\nand exchange gradients and weights.")
    string(TOUPPER ${plugin} key)
    set(CPACK_DEBIAN_${key}_PACKAGE_DEPENDS "libdsrt0 (= ${PROJECT_VERSION})")
    set(CPACK_DEBIAN_${key}_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/triggers)
  endif()
endforeach()
if(TARGET dsrt_cuda)
  list(APPEND CPACK_COMPONENTS_ALL cuda)
  package(cuda libdsrt-cuda libs "NVIDIA GPUs for libdsrt"
          "The plug-in with which libdsrt computes on NVIDIA GPUs.")
  set(CPACK_DEBIAN_CUDA_PACKAGE_SHLIBDEPS OFF)  # CUDA's own libraries come from NVIDIA's packages
  set(CPACK_DEBIAN_CUDA_PACKAGE_DEPENDS "libdsrt0 (= ${PROJECT_VERSION}), libc6, libgcc-s1, libstdc++6")
  set(CPACK_DEBIAN_CUDA_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/triggers)
endif()
include(CPack)
